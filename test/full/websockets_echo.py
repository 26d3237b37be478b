"""A server and a client of Python's websockets, for python-websockets.test.ts: each says on stdout what it has seen, one JSON value a line."""

import asyncio
import json
import sys

import websockets


def say(value):
    print(json.dumps(value), flush=True)


async def serve():
    async def echo(connection, *_):
        try:
            async for message in connection:
                if message == "headers":
                    await connection.send(json.dumps(dict(connection.request_headers)))
                elif message == "close":
                    await connection.close(4002, "enough")
                else:
                    await connection.send(message)
        except websockets.ConnectionClosedError:
            pass
        say([connection.close_code, connection.close_reason])

    async with websockets.serve(echo, "127.0.0.1", 0, subprotocols=["chat.v1"]) as server:
        say(server.sockets[0].getsockname()[1])
        # It ends with the one who started it.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def ask(url, compression):
    options = {"compression": compression or None, "subprotocols": ["chat.v1"], "origin": url.replace("ws", "http", 1)}
    async with websockets.connect(url + "/socket", **options) as connection:
        seen = {
            "subprotocol": connection.subprotocol,
            "extensions": [extension.name for extension in connection.extensions],
        }
        large = "x1y2" * 10_000
        for message in ["Grüße", b"\x00\xff", "", large, ["in ", "three ", "pieces"]]:
            await connection.send(message)
            expected = "".join(message) if isinstance(message, list) else message
            assert await connection.recv() == expected, message
        await asyncio.wait_for(await connection.ping(b"are you there?"), 10)
        # The other side's pings are answered without our doing.
        await connection.send("headers")
        seen["headers"] = json.loads(await connection.recv())
        await connection.close(4001, "bye")
        seen["ours"] = connection.close_code
    async with websockets.connect(url + "/socket", **options) as connection:
        await connection.send("close")
        try:
            await connection.recv()
        except websockets.ConnectionClosedError as closed:
            seen["theirs"] = [closed.rcvd.code, closed.rcvd.reason]
    try:
        await websockets.connect(url + "/nowhere", **options)
    except websockets.InvalidStatusCode as refused:
        seen["refused"] = refused.status_code
    say(seen)


if sys.argv[1] == "serve":
    asyncio.run(serve())
else:
    asyncio.run(ask(sys.argv[2], sys.argv[3]))
