"""slixmpp as a client for the tests, over TCP (RFC 6120).

    slixmpp_client.py HOST PORT JID PASSWORD

Commands come in on stdin and events go out on stdout, one a line, as in stdio.js; and in addition:

    command   slot NAME SIZE          asks for a slot to upload a file of SIZE bytes to (XEP-0363)
    event     slot PUT_URL GET_URL
"""

import asyncio
import sys

from slixmpp import ClientXMPP
from slixmpp.exceptions import IqError, IqTimeout

LIFETIME_SECONDS = 120


def emit(*words):
    print(*words, flush=True)


class Client(ClientXMPP):
    def __init__(self, jid, password):
        super().__init__(jid, password)
        self.enable_starttls = False
        self.enable_direct_tls = False
        self.enable_plaintext = True
        self.plugin["feature_mechanisms"].unencrypted_plain = True
        self.register_plugin("xep_0363")
        self.add_event_handler("session_start", self.on_session_start)
        self.add_event_handler("presence_available", self.on_presence)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("failed_all_auth", lambda _: emit("error authentication failed"))
        self.add_event_handler("connection_failed", lambda reason: emit("error", reason))
        self.add_event_handler("disconnected", self.on_disconnected)
        self.add_event_handler("stream_error", self.on_stream_error)
        self.condition = ""
        self.is_over = asyncio.get_event_loop().create_future()

    def on_session_start(self, _event):
        self.send_presence()

    def on_presence(self, presence):
        # The server has handled our presence when it echoes it to this resource.
        if presence["from"] == self.boundjid:
            emit("online", self.boundjid.full)

    def on_message(self, message):
        if message["body"]:
            emit("message", message["from"], message["body"])

    def on_stream_error(self, error):
        self.condition = error["condition"]

    def on_disconnected(self, _reason):
        if not self.is_over.done():
            self.is_over.set_result(None)

    async def request_slot(self, name, size):
        try:
            slot = await self.plugin["xep_0363"].request_slot(f"upload.{self.boundjid.host}", name, size)
        except (IqError, IqTimeout) as error:
            emit("error slot", error)
        else:
            emit("slot", slot["http_upload_slot"]["put"]["url"], slot["http_upload_slot"]["get"]["url"])

    async def obey(self, commands):
        while line := (await commands.readline()).decode():
            command, *arguments = line.rstrip("\n").split(" ")
            if command == "send":
                self.send_message(mto=arguments[0], mbody=" ".join(arguments[1:]), mtype="chat")
            elif command == "slot":
                await self.request_slot(arguments[0], int(arguments[1]))
            elif command == "quit":
                await self.disconnect()
                return
            else:
                emit("error unknown command", line)
        self.abort()


async def main(host, port, jid, password):
    client = Client(jid, password)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    client.connect(host, int(port))
    obeying = asyncio.create_task(client.obey(commands))
    await asyncio.wait_for(client.is_over, LIFETIME_SECONDS)
    obeying.cancel()
    emit(f"closed {client.condition}".rstrip())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
