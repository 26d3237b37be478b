import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server } from 'socket.io';
import { ready } from './control.ts';

const isPublishing = process.argv[2] === 'publish';
const http = createServer();
// No heartbeat within a run: the load does not answer it.
const server = new Server(http, { transports: ['websocket'], serveClient: false, pingInterval: 600_000 });
server.on('connection', socket => {
  socket.on('m', text => {
    if (isPublishing) server.emit('m', text);
    else socket.emit('m', text);
  });
});
http.listen(0, '127.0.0.1', () => ready((http.address() as AddressInfo).port, () => globalThis.gc?.()));
