"""A WebSocket server that takes messages of up to 1 MiB: `message_limits.py aiohttp|tornado|websockets [CERTIFICATE KEY]`. Prints its port."""

import asyncio
import ssl
import sys

LIMIT = 1 << 20
KIND = sys.argv[1]
CONTEXT = None
if len(sys.argv) > 2:
    CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CONTEXT.load_cert_chain(sys.argv[2], sys.argv[3])


async def aiohttp_server():
    from aiohttp import web

    async def handle(request):
        socket = web.WebSocketResponse(max_msg_size=LIMIT)
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=CONTEXT)
    await site.start()
    return runner.addresses[0][1]


async def tornado_server():
    import tornado.httpserver
    import tornado.netutil
    import tornado.web
    import tornado.websocket

    class Handler(tornado.websocket.WebSocketHandler):
        def check_origin(self, origin):
            return True

        def on_message(self, message):
            pass

    app = tornado.web.Application([(r"/.*", Handler)], websocket_max_message_size=LIMIT)
    server = tornado.httpserver.HTTPServer(app, ssl_options=CONTEXT)
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    return sockets[0].getsockname()[1]


async def websockets_server():
    import websockets

    async def handle(socket, *_):
        async for _ in socket:
            pass

    server = await websockets.serve(handle, "127.0.0.1", 0, max_size=LIMIT, ssl=CONTEXT)
    return server.sockets[0].getsockname()[1]


async def main():
    port = await {"aiohttp": aiohttp_server, "tornado": tornado_server, "websockets": websockets_server}[KIND]()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
