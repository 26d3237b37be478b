"""Servers of others, for doctor-healthy.test.ts: what their documentation shows first. The port is the only line of stdout.

`silent` is a port that no connection gets through to, as behind a firewall: nobody accepts, and there is no room to wait."""

import asyncio
import socket
import sys

KIND = sys.argv[1]


def say(port):
    print(port, flush=True)


async def wait():
    # It ends with the one who started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def with_websockets():
    import websockets

    async def echo(connection, *_):
        async for message in connection:
            await connection.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        say(server.sockets[0].getsockname()[1])
        await wait()


async def with_aiohttp():
    from aiohttp import WSMsgType, web

    async def echo(request):
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        async for message in connection:
            if message.type == WSMsgType.TEXT:
                await connection.send_str(message.data)
        return connection

    application = web.Application()
    application.router.add_get("/socket", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    say(runner.addresses[0][1])
    await wait()
    await runner.cleanup()


async def with_tornado():
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets
    from tornado.web import Application
    from tornado.websocket import WebSocketHandler

    class Echo(WebSocketHandler):
        def on_message(self, message):
            self.write_message(message)

    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(Application([("/socket", Echo)])).add_sockets(sockets)
    say(sockets[0].getsockname()[1])
    await wait()


async def silent():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = [socket.socket() for _ in range(8)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
    await asyncio.sleep(0.3)
    say(listener.getsockname()[1])
    await wait()


asyncio.run({"websockets": with_websockets, "aiohttp": with_aiohttp, "tornado": with_tornado, "silent": silent}[KIND]())
