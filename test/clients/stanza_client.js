'use strict';
// stanza (StanzaJS) as a client for the tests (see stdio.js).
//
//   node stanza_client.js URL JID PASSWORD
//
// A ws: or wss: URL makes it WebSocket (RFC 7395), an http: or https: one BOSH (XEP-0124).

const XMPP = require('stanza');
const { closed, emit, fail, serve } = require('./stdio.js');

const [url, jid, password] = process.argv.slice(2);
const transport = url.startsWith('ws') ? 'websocket' : 'bosh';
const client = XMPP.createClient({
    jid,
    password,
    autoReconnect: false,
    transports: { websocket: false, bosh: false, [transport]: url },
});

client.on('session:started', () => client.sendPresence());
// The server has handled the presence when it echoes it to this resource.
client.on('presence', (presence) => { if (presence.from === client.jid) emit('online', client.jid); });
client.on('message', ({ from, body }) => { if (body) emit('message', from, body); });
client.on('auth:failed', () => fail('authentication failed'));
client.on('disconnected', (error) => error ? fail(error) : closed());
client.connect();

serve({
    send: (to, body) => client.sendMessage({ to, body, type: 'chat' }),
    quit: () => {
        // stanza 12.22 trips over stanzas in the <body/> with which a BOSH session ends: it has ended its own stream by
        // then. The session is over all the same.
        process.prependListener('uncaughtException', (error) => {
            if (error.code === 'ERR_STREAM_PUSH_AFTER_EOF') closed();
        });
        client.disconnect();
    },
});
