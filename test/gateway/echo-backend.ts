// A backend in a process of its own, so that it can be killed: echoes WebSocket messages behind its process id, and
// answers requests with it.
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer } from 'ws';

const server = http.createServer((_, response) => response.end(String(process.pid)));
new WebSocketServer({ server }).on('connection', socket => {
  socket.on('message', data => socket.send(`${process.pid} ${data}`));
});
server.listen(0, '127.0.0.1', () => process.send!((server.address() as AddressInfo).port));
process.on('disconnect', () => process.exit());
