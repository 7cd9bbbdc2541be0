'use strict';
// strophe.js as a client for the tests (see stdio.js).
//
//   node strophe_client.js URL JID PASSWORD
//
// A ws: or wss: URL makes it WebSocket (RFC 7395), an http: one BOSH (XEP-0124). The variable FORWARDED_FOR has a
// WebSocket say that it comes through a proxy.

const http = require('node:http');
const { XMLHttpRequest } = require('xmlhttprequest-ssl');
const { Strophe, $iq, $msg, $pres } = require('strophe.js');
const { closed, emit, fail, serve } = require('./stdio.js');

// Debian 12's node 18 has it under another name, and without it strophe.js logs in with PLAIN.
globalThis.crypto ??= require('node:crypto').webcrypto;

// As in a browser: responses are there as documents (strophe.js reads nothing else), and connections are kept.
const agent = new http.Agent({ keepAlive: true });
const xmlParser = (text) => new DOMParser().parseFromString(text, 'text/xml');
globalThis.XMLHttpRequest = class extends XMLHttpRequest {
    constructor() {
        super({ agent, xmlParser });
    }
};
const { FORWARDED_FOR } = process.env;
if (FORWARDED_FOR) {
    const headers = { 'X-Forwarded-For': FORWARDED_FOR };
    globalThis.WebSocket = class extends WebSocket {
        constructor(url, protocol) {
            super(url, protocol, { headers });
        }
    };
}
Strophe.setLogLevel(Strophe.LogLevel.WARN);

const [url, jid, password] = process.argv.slice(2);
const connection = new Strophe.Connection(url);
const child = (element, name) => element.getElementsByTagName(name)[0];
const items = (iq) => Array.from(iq.getElementsByTagName('item'));

connection.addHandler((stanza) => {
    const body = child(stanza, 'body');
    if (!body) return true;
    const isCopy = child(stanza, 'received');
    const message = isCopy ? child(child(stanza, 'forwarded'), 'message') : stanza;
    const event = isCopy ? 'carbon' : stanza.getAttribute('type') === 'groupchat' ? 'groupchat' : 'message';
    emit(event, message.getAttribute('from'), body.textContent);
    return true;
}, null, 'message');

// The codes in a room's presence (XEP-0045, 15.6.2); 110 marks one's own.
const isSelfPresence = (stanza) =>
    Array.from(stanza.getElementsByTagName('status')).some((status) => status.getAttribute('code') === '110');

connection.addHandler((stanza) => {
    const from = stanza.getAttribute('from');
    const type = stanza.getAttribute('type') ?? 'available';
    if (isSelfPresence(stanza)) emit(type === 'unavailable' ? 'left' : 'joined', Strophe.getBareJidFromJid(from));
    else if (from !== connection.jid) emit('presence', type, from);
    return true;
}, null, 'presence');

connection.addHandler((iq) => {
    items(iq).forEach((item) => emit('push', item.getAttribute('jid'), item.getAttribute('subscription')));
    connection.send($iq({ type: 'result', id: iq.getAttribute('id') }));
    return true;
}, Strophe.NS.ROSTER, 'iq', 'set');

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

const unanswered = (iq) => fail(`no result: ${iq?.outerHTML ?? 'nothing'}`);
const indicate = (state) => () => connection.send(new Strophe.Builder(state, { xmlns: 'urn:xmpp:csi:0' }));

serve({
    send: (to, text) => connection.send($msg({ to, type: 'chat' }).c('body').t(text)),
    presence: (type, to) => connection.send($pres(type === 'available' ? { to } : { to, type })),
    status: (status, rest) => connection.send($pres().c('status').t(`${status} ${rest}`)),
    roster: () => connection.sendIQ(
        $iq({ type: 'get' }).c('query', { xmlns: Strophe.NS.ROSTER }),
        (iq) => emit('roster', ...items(iq).map((item) => item.getAttribute('jid'))), unanswered),
    'roster-set': (contact) => connection.sendIQ(
        $iq({ type: 'set' }).c('query', { xmlns: Strophe.NS.ROSTER }).c('item', { jid: contact }), null, unanswered),
    join: (room, nick) => connection.send($pres({ to: `${room}/${nick}` }).c('x', { xmlns: Strophe.NS.MUC })),
    groupchat: (to, text) => connection.send($msg({ to, type: 'groupchat' }).c('body').t(text)),
    leave: (room, nick) => connection.send($pres({ to: `${room}/${nick}`, type: 'unavailable' })),
    carbons: () => connection.sendIQ(
        $iq({ type: 'set' }).c('enable', { xmlns: 'urn:xmpp:carbons:2' }), () => emit('carbons'), unanswered),
    inactive: indicate('inactive'),
    active: indicate('active'),
    quit: () => connection.disconnect('quit'),
});
