'use strict';
// What all clients of the tests share: commands come in on stdin and events go out on stdout, one a line.
//
//   commands   send JID TEXT | quit
//   events     online JID | message JID TEXT | closed [CONDITION] | error TEXT
//
// CONDITION is that of the stream error with which the server ended the session, if it did.
//
// A client never outlives its test: it ends when stdin does, and in any case after LIFETIME.

const readline = require('node:readline');

const LIFETIME_MS = 120_000;

exports.emit = (...words) => process.stdout.write(words.join(' ') + '\n');

exports.fail = (reason) => {
    exports.emit('error', String(reason).replaceAll('\n', ' '));
    process.exit(1);
};

/** Reports the end of the session and ends. */
exports.closed = (condition) => {
    if (condition) exports.emit('closed', condition);
    else exports.emit('closed');
    process.exit(0);
};

/** Calls send(jid, text) and quit() as commands come in. */
exports.serve = ({ send, quit }) => {
    process.on('uncaughtException', (error) => exports.fail(error.stack));
    process.on('unhandledRejection', (error) => exports.fail(error));
    setTimeout(() => exports.fail('lifetime is over'), LIFETIME_MS).unref();
    const commands = readline.createInterface({ input: process.stdin });
    commands.on('close', () => process.exit(0));
    commands.on('line', (line) => {
        const [command, jid, ...text] = line.split(' ');
        if (command === 'send') send(jid, text.join(' '));
        else if (command === 'quit') quit();
        else exports.fail(`unknown command ${line}`);
    });
};
