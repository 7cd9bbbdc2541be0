'use strict';
// strophe.js as a client for the tests (see stdio.js).
//
//   node strophe_client.js URL JID PASSWORD
//
// A ws: or wss: URL makes it WebSocket (RFC 7395), an http: one BOSH (XEP-0124).

const http = require('node:http');
const { XMLHttpRequest } = require('xmlhttprequest-ssl');
const { Strophe, $msg, $pres } = require('strophe.js');
const { closed, emit, fail, serve } = require('./stdio.js');

// As in a browser: responses are there as documents (strophe.js reads nothing else), and connections are kept.
const agent = new http.Agent({ keepAlive: true });
const xmlParser = (text) => new DOMParser().parseFromString(text, 'text/xml');
globalThis.XMLHttpRequest = class extends XMLHttpRequest {
    constructor() {
        super({ agent, xmlParser });
    }
};
Strophe.setLogLevel(Strophe.LogLevel.WARN);

const [url, jid, password] = process.argv.slice(2);
const connection = new Strophe.Connection(url);

connection.addHandler((stanza) => {
    const body = stanza.getElementsByTagName('body')[0];
    if (body) emit('message', stanza.getAttribute('from'), body.textContent);
    return true;
}, null, 'message');

const { Status } = Strophe;
let isOnline = false;
connection.connect(jid, password, (status, reason) => {
    if (status === Status.CONNECTED) {
        // The server has handled the presence when it echoes it to this resource.
        connection.addHandler(() => {
            isOnline = true;
            emit('online', connection.jid);
        }, null, 'presence', null, null, connection.jid);
        connection.send($pres());
    } else if (status === Status.AUTHFAIL || (status === Status.CONNFAIL && !isOnline)) {
        fail(`strophe status ${status} ${reason}`);
    } else if (status === Status.CONNFAIL || status === Status.ERROR || status === Status.DISCONNECTED) {
        closed(reason);
    }
});

serve({
    send: (to, text) => connection.send($msg({ to, type: 'chat' }).c('body').t(text)),
    quit: () => connection.disconnect('quit'),
});
