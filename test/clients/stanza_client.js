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

let condition;
let isCut = false;
// A session is online when the server has handled the presence, and where it offers stream management (XEP-0198) has enabled
// that as well: stanza asks for it after the presence, and can't resume a session whose identifier it has not got yet.
let isEchoed = false;
let isManaged = true;
const online = () => { if (isEchoed && isManaged) emit('online', client.jid); };
client.on('features', ({ streamManagement }) => { isEchoed = false; isManaged = !streamManagement; });
client.on('sm', ({ type }) => {
    if (type !== 'enabled' && type !== 'resumed') return;
    isManaged = true;
    online();
});
client.on('session:started', () => client.sendPresence());
client.on('stream:management:resumed', () => emit('resumed'));
client.on('presence', ({ type = 'available', from }) => {
    if (from !== client.jid) return emit('presence', type, from);
    isEchoed = true;
    online();
});
client.on('message', ({ type, from, body }) => { if (body) emit(type === 'groupchat' ? type : 'message', from, body); });
client.on('carbon:received', ({ carbon: { forward: { message } } }) => emit('carbon', message.from, message.body));
client.on('roster:update', ({ roster }) => roster.items.forEach((item) => emit('push', item.jid, item.subscription)));
client.on('auth:failed', () => fail('authentication failed'));
client.on('streamError', (error) => { condition = error.condition; });
client.on('bosh:terminate', (body) => { condition ??= body.condition; });
client.on('disconnected', (error) => {
    if (error) fail(error);
    else if (isCut) emit('cut');
    else closed(condition);
});
// stanza 12.22 trips over stanzas in the <body/> with which a BOSH session ends: it has ended its own stream by then.
// The session is over all the same.
process.on('uncaughtException', (error) => {
    if (error.code === 'ERR_STREAM_PUSH_AFTER_EOF') closed(condition);
});
client.connect();

serve({
    send: (to, body) => client.sendMessage({ to, body, type: 'chat' }),
    presence: (type, to) => client.sendPresence(type === 'available' ? { to } : { to, type }),
    status: (status, rest) => client.sendPresence({ status: `${status} ${rest}` }),
    roster: async () => emit('roster', ...(await client.getRoster()).items.map((item) => item.jid)),
    'roster-set': (contact) => client.updateRosterItem({ jid: contact }),
    join: async (room, nick) => {
        await client.joinRoom(room, nick);
        emit('joined', room);
    },
    groupchat: (to, body) => client.sendMessage({ to, body, type: 'groupchat' }),
    leave: async (room, nick) => {
        await client.leaveRoom(room, nick);
        emit('left', room);
    },
    carbons: async () => {
        await client.enableCarbons();
        emit('carbons');
    },
    // Not markInactive() and markActive(): stanza 12.22 calls the field by another name there and sends nothing.
    inactive: () => client.send('csi', { state: 'inactive' }),
    active: () => client.send('csi', { state: 'active' }),
    cut: () => {
        isCut = true;
        client.transport.socket.terminate();
    },
    reconnect: () => {
        isCut = false;
        client.connect();
    },
    quit: () => client.disconnect(),
});
