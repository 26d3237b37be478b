import type { AddressInfo } from 'node:net';
import { WebSocket, WebSocketServer } from 'ws';
import { ready } from './control.ts';

const isPublishing = process.argv[2] === 'publish';
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
server.on('connection', connection => {
  connection.on('error', console.error);
  connection.on('message', (data, isBinary) => {
    if (!isPublishing) {
      connection.send(data, { binary: isBinary });
      return;
    }
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
    }
  });
});
server.on('listening', () => ready((server.address() as AddressInfo).port, () => globalThis.gc?.()));
