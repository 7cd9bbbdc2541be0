"""slixmpp as a client for the tests, over TCP (RFC 6120).

    slixmpp_client.py HOST PORT JID PASSWORD [CA_FILE]

With CA_FILE it uses STARTTLS and nothing else. Commands come in on stdin and events go out on stdout, one a line, as in
stdio.js; and in addition:

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
    def __init__(self, jid, password, ca_file=None):
        super().__init__(jid, password)
        self.enable_starttls = ca_file is not None
        self.enable_direct_tls = False
        self.enable_plaintext = ca_file is None
        self.ca_certs = ca_file
        mechanisms = self.plugin["feature_mechanisms"]
        mechanisms.unencrypted_scram = True
        # Without TLS slixmpp claims that it could bind to a TLS channel if only the server did. ejabberd does offer that,
        # on other connections, and since 24.x takes the claim for an attack.
        security = mechanisms.security_callback
        mechanisms.security_callback = lambda values: {**security(values), "binding_proposed": True}
        # The tests answer subscription requests themselves.
        self.roster.auto_authorize = None
        self.roster.auto_subscribe = False
        for plugin in ("xep_0045", "xep_0198", "xep_0280", "xep_0352", "xep_0363"):
            self.register_plugin(plugin)
        self.add_event_handler("session_start", self.on_session_start)
        self.add_event_handler("sm_enabled", self.on_stream_management)
        self.add_event_handler("session_resumed", lambda _: emit("resumed"))
        self.add_event_handler("presence_available", self.on_presence)
        for kind in ("unavailable", "subscribe", "subscribed", "unsubscribe", "unsubscribed"):
            self.add_event_handler(f"presence_{kind}", self.on_presence)
        self.add_event_handler("groupchat_presence", self.on_room_presence)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("carbon_received", self.on_carbon)
        self.add_event_handler("roster_update", self.on_roster)
        self.add_event_handler("failed_all_auth", lambda _: emit("error authentication failed"))
        self.add_event_handler("connection_failed", lambda reason: emit("error", reason))
        self.add_event_handler("disconnected", self.on_disconnected)
        self.add_event_handler("stream_error", self.on_stream_error)
        self.address = None
        # What of a login the server has answered: "presence", "stream management".
        self.ready = set()
        self.condition = ""
        self.is_cut = False
        self.is_over = asyncio.get_event_loop().create_future()

    def on_session_start(self, _event):
        self.send_presence()

    def on_presence(self, presence):
        # The server has handled our presence when it echoes it to this resource.
        if presence["from"] == self.boundjid:
            self.on_ready("presence")
        elif presence.get_plugin("muc", check=True) is None:
            emit("presence", presence["type"], presence["from"])

    def on_stream_management(self, _enabled):
        self.on_ready("stream management")

    def on_ready(self, step):
        # They come in any order. A connection that is cut before the second can't be resumed.
        if step not in self.ready:
            self.ready.add(step)
            if len(self.ready) == 2:
                emit("online", self.boundjid.full)

    def on_room_presence(self, presence):
        # 110 marks one's own (XEP-0045, 15.6.2).
        if presence["type"] == "unavailable" and 110 in presence["muc"]["status_codes"]:
            emit("left", presence["from"].bare)
        else:
            emit("presence", presence["type"], presence["from"])

    def on_message(self, message):
        if message["body"]:
            emit("groupchat" if message["type"] == "groupchat" else "message", message["from"], message["body"])

    def on_carbon(self, message):
        original = message["carbon_received"]
        emit("carbon", original["from"], original["body"])

    def on_roster(self, iq):
        for jid, item in iq["roster"]["items"].items():
            if iq["type"] == "set":
                emit("push", jid, item["subscription"])

    def on_stream_error(self, error):
        self.condition = error["condition"]

    def on_disconnected(self, _reason):
        if self.is_cut:
            emit("cut")
        elif not self.is_over.done():
            self.is_over.set_result(None)

    async def request_slot(self, name, size):
        try:
            slot = await self.plugin["xep_0363"].request_slot(f"upload.{self.boundjid.host}", name, size)
        except (IqError, IqTimeout) as error:
            emit("error slot", error)
        else:
            emit("slot", slot["http_upload_slot"]["put"]["url"], slot["http_upload_slot"]["get"]["url"])

    async def run(self, command, word="", *words):
        rest = " ".join(words)
        match command:
            case "send":
                self.send_message(mto=word, mbody=rest, mtype="chat")
            case "presence":
                self.send_presence(pto=rest, ptype=None if word == "available" else word)
            case "status":
                self.send_presence(pstatus=f"{word} {rest}")
            case "roster":
                # All of it, not what has changed since the version that we know.
                self.client_roster.version = ""
                iq = await self.get_roster()
                emit("roster", *iq["roster"]["items"])
            case "roster-set":
                await self.update_roster(word)
            case "join":
                await self.plugin["xep_0045"].join_muc_wait(word, rest)
                emit("joined", word)
            case "groupchat":
                self.send_message(mto=word, mbody=rest, mtype="groupchat")
            case "leave":
                self.plugin["xep_0045"].leave_muc(word, rest)
            case "carbons":
                await self.plugin["xep_0280"].enable()
                emit("carbons")
            case "inactive":
                self.plugin["xep_0352"].send_inactive()
            case "active":
                self.plugin["xep_0352"].send_active()
            case "cut":
                self.is_cut = True
                self.abort()
            case "reconnect":
                self.is_cut = False
                self.connect(*self.address)
            case "slot":
                await self.request_slot(word, int(rest))
            case "quit":
                await self.disconnect()
            case _:
                emit("error unknown command", command)

    async def obey(self, commands):
        while line := (await commands.readline()).decode():
            await self.run(*line.rstrip("\n").split(" "))
        self.abort()


async def main(host, port, jid, password, ca_file=None):
    # A command may be longer than what asyncio takes for a line.
    commands = asyncio.StreamReader(limit=1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    client = Client(jid, password, ca_file)
    client.address = (host, int(port))
    client.connect(*client.address)
    obeying = asyncio.create_task(client.obey(commands))
    await asyncio.wait({client.is_over, obeying}, timeout=LIFETIME_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if obeying.done() and obeying.exception():
        raise obeying.exception()
    await asyncio.wait_for(client.is_over, LIFETIME_SECONDS)
    obeying.cancel()
    emit(f"closed {client.condition}".rstrip())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
