'use strict';
// What all clients of the tests share: commands come in on stdin and events go out on stdout, one a line.
//
//   command                     event
//   (connects by itself)        online JID
//   send JID TEXT               message JID TEXT             the sender; a chat message to this resource
//   presence TYPE JID           presence TYPE JID            TYPE is available, unavailable, subscribe, subscribed ...
//   status TEXT                                              presence to all contacts
//   roster                      roster JID JID ...
//   roster-set JID              push JID SUBSCRIPTION        to every resource that has asked for the roster
//   join ROOM NICK              joined ROOM
//   groupchat ROOM TEXT         groupchat ROOM/NICK TEXT
//   leave ROOM NICK             left ROOM
//   carbons                     carbons                      they are enabled
//                               carbon JID TEXT              the sender of a message to another resource
//   inactive | active                                        client state indication (XEP-0352)
//   cut                         cut                          the connection is gone without a goodbye
//   reconnect                   resumed                      the stream management session goes on (XEP-0198)
//   quit                        closed [CONDITION]
//                               error TEXT                   and the client ends
//
// CONDITION is that of the stream error with which the server ended the session, if it did. `cut` and `reconnect` are
// known to the clients that do stream management, stanza (over WebSocket) and slixmpp.
//
// A client never outlives its test: it ends when stdin does, and in any case after LIFETIME.

const readline = require('node:readline');

const LIFETIME_MS = 120_000;

const say = (words, then) => process.stdout.write(words.join(' ') + '\n', then);

exports.emit = (...words) => say(words);

exports.fail = (reason) => say(['error', String(reason).replaceAll('\n', ' ')], () => process.exit(1));

/** Reports the end of the session and ends when that has been written; what is still queued would be lost. */
exports.closed = (condition) => say(condition ? ['closed', condition] : ['closed'], () => process.exit(0));

/** Calls commands[name](word, rest) as commands come in: the first word after the name, and the rest of the line. */
exports.serve = (commands) => {
    process.on('uncaughtException', (error) => exports.fail(error.stack));
    process.on('unhandledRejection', (error) => exports.fail(JSON.stringify(error) + error));
    setTimeout(() => exports.fail('lifetime is over'), LIFETIME_MS).unref();
    const input = readline.createInterface({ input: process.stdin });
    input.on('close', () => process.exit(0));
    input.on('line', (line) => {
        const [name, word, ...rest] = line.split(' ');
        if (Object.hasOwn(commands, name)) commands[name](word, rest.join(' '));
        else exports.fail(`unknown command ${line}`);
    });
};
