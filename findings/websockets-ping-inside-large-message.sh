#!/usr/bin/env bash
# websockets 17.1 (Python): a ping between the fragments of a message counts against the size limit of that message. A message of 1,024 bytes under max_size=1024
# is taken when its two fragments follow each other, and is closed with 1009 when a ping of 100 bytes comes between them, which RFC 6455 (5.4, 5.5) lets anybody send at any time.
# The parser passes `max_size - current message's bytes` for each next frame, also for one of control, which belongs to no message and has a limit of its own (125 bytes).
# Who sends keepalive pings from a proxy into large fragmented messages loses connections that neither side did anything wrong on. Exits non-zero when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv environment
environment/bin/pip install --quiet --disable-pip-version-check websockets==17.1
cat > program.py <<'PROGRAM'
import asyncio
import base64
import logging
import os
import struct

from websockets.asyncio.server import serve

logging.disable(logging.CRITICAL)
PING, TEXT_BEGINS, ENDS = 0x89, 0x01, 0x80


def frame(first, payload):
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack("!H", size)
    return bytes([first]) + length + b"\0\0\0\0" + payload


async def answers(port, frames):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = ["GET / HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"".join(frames))
    seen = []
    while not seen or seen[-1].startswith("pong"):
        first, size = await asyncio.wait_for(reader.readexactly(2), 10)
        if size == 126:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
        payload = await reader.readexactly(size)
        opcode = first & 15
        seen.append({1: f"text of {size}", 8: f"close {int.from_bytes(payload[:2], 'big')}", 10: f"pong of {size}"}[opcode])
    writer.close()
    return seen


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    begin, end = frame(TEXT_BEGINS, b"x" * 1000), frame(ENDS, b"x" * 24)
    async with serve(echo, "127.0.0.1", 0, max_size=1024, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        without = await answers(port, [begin, end])
        small = await answers(port, [begin, frame(PING, b"p" * 24), end])
        large = await answers(port, [begin, frame(PING, b"p" * 25), end])
    print("no ping between:          ", without)
    print("a ping of 24 bytes between:", small)
    print("a ping of 25 bytes between:", large)
    assert without == ["text of 1024"]
    assert small == ["pong of 24", "text of 1024"]
    assert large == ["close 1009"]


asyncio.run(main())
PROGRAM
environment/bin/python program.py
