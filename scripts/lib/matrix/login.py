#!/usr/bin/env python3
"""Logs in to an XMPP server as often as told, over TCP with STARTTLS where the server offers it, and with Python's own
library alone: login.py PORT USER PASSWORD COUNT. Fails with the server's answer."""
import base64
import socket
import ssl
import sys

HEADER = (b"<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
          b"xmlns:stream='http://etherx.jabber.org/streams'>")
BIND = b"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"


def read_until(stream, end):
    received = b""
    while end not in received:
        data = stream.recv(65536)
        if not data or b"<failure" in received or b"<stream:error" in received:
            sys.exit("no %r in %r" % (end, received + data))
        received += data
    return received


def exchange(stream, data, end):
    stream.sendall(data)
    return read_until(stream, end)


def encrypted(stream):
    exchange(stream, b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", b"<proceed")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(stream)


def login(port, user, password):
    stream = socket.create_connection(("127.0.0.1", port), 30)
    features = exchange(stream, HEADER, b"</stream:features>")
    if b"<starttls" in features:
        stream = encrypted(stream)
        exchange(stream, HEADER, b"</stream:features>")
    secret = base64.b64encode(("\0%s\0%s" % (user, password)).encode())
    exchange(stream, b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>" % secret, b"<success")
    exchange(stream, HEADER, b"</stream:features>")
    exchange(stream, BIND, b"</iq>")
    exchange(stream, b"</stream:stream>", b"</stream:stream>")
    stream.close()


for _ in range(int(sys.argv[4])):
    login(int(sys.argv[1]), sys.argv[2], sys.argv[3])
print("%s logins" % sys.argv[4])
