#!/usr/bin/env bash
# socket.io 4.8.4 (engine.io 6.6.13): a WebSocket endpoint beside Socket.IO, on the same http server, has one second to answer a handshake.
# Socket.IO listens to every upgrade of the server. If an upgrade is not for its path, it waits 1 s; if nothing has been written to the socket by then, it
# takes the upgrade for one that nobody handles and ends the socket, even while another listener is still waiting for its session store or authentication
# service. The client gets "socket hang up", the other endpoint gets no error. A second Socket.IO on another path is affected in the same way while its
# allowRequest waits. Set destroyUpgrade: false and end unhandled upgrades yourself, or raise destroyUpgradeTimeout. Exits non-zero when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund socket.io@4.8.4 engine.io@6.6.13 ws@8.23.0
cat > program.mjs <<'PROGRAM'
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import { Server } from 'socket.io';
import { WebSocket, WebSocketServer } from 'ws';

/** How a client fares that opens a WebSocket at `path`, at a server made ready by `prepare`. */
async function attempt(path, prepare) {
  const server = http.createServer();
  prepare(server);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const socket = new WebSocket(`ws://127.0.0.1:${server.address().port}${path}`);
  return new Promise(resolve => {
    socket.on('open', () => resolve('open'));
    socket.on('error', error => resolve(error.message));
  });
}

/** An endpoint of its own that takes upgrades of /feed, and needs `ms` to learn whether it may accept. */
function feed(server, ms) {
  const sockets = new WebSocketServer({ noServer: true });
  server.on('upgrade', async (req, socket, head) => {
    if (req.url !== '/feed') return;
    await wait(ms);
    sockets.handleUpgrade(req, socket, head, () => {});
  });
}
function second(server, ms) {
  new Server(server, { path: '/second/', destroyUpgrade: false, allowRequest: (_, done) => setTimeout(done, ms, null, true) });
}

const ofSecond = '/second/?EIO=4&transport=websocket';
const seen = await Promise.all(
  Object.entries({
    'ws alone, after 1.5 s': attempt('/feed', server => feed(server, 1_500)),
    'ws beside Socket.IO, after 0.5 s': attempt('/feed', server => (new Server(server), feed(server, 500))),
    'ws beside Socket.IO, after 1.5 s': attempt('/feed', server => (new Server(server), feed(server, 1_500))),
    'ws beside Socket.IO with destroyUpgrade: false, after 1.5 s': attempt('/feed', server => (
      new Server(server, { destroyUpgrade: false }), feed(server, 1_500)
    )),
    'a second Socket.IO alone, after 1.5 s': attempt(ofSecond, server => second(server, 1_500)),
    'a second Socket.IO beside it, after 1.5 s': attempt(ofSecond, server => (new Server(server), second(server, 1_500))),
  }).map(async ([name, result]) => [name, await result]),
);
const version = name => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
console.log(`socket.io ${version('socket.io')}, engine.io ${version('engine.io')}, ws ${version('ws')}`);
console.log(Object.fromEntries(seen));
assert.deepEqual(Object.fromEntries(seen), {
  'ws alone, after 1.5 s': 'open',
  'ws beside Socket.IO, after 0.5 s': 'open',
  'ws beside Socket.IO, after 1.5 s': 'socket hang up',
  'ws beside Socket.IO with destroyUpgrade: false, after 1.5 s': 'open',
  'a second Socket.IO alone, after 1.5 s': 'open',
  'a second Socket.IO beside it, after 1.5 s': 'socket hang up',
});
process.exit(0);
PROGRAM
node program.mjs
