#!/usr/bin/env bash
# socket.io 4.8.4 (engine.io 6.6.12): middleware of io.engine.use gets two kinds of response.
# By polling it is node:http's ServerResponse. For a WebSocket handshake it is a stand-in: setHeader reaches the 101, writeHead does nothing with status
# and headers, appendHeader is missing, and end() closes the connection without an answer. So middleware that refuses with a status and a body says so by
# polling, and a WebSocket client that sends the same request learns nothing; a cookie that is given to writeHead arrives by polling only; and middleware
# that appends a second cookie throws for handshakes only, when it has one to set. Set cookies by setHeader there, with all of them in one list.
# Exits non-zero when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund socket.io@4.8.4 engine.io@6.6.12
cat > program.mjs <<'PROGRAM'
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { Server } from 'socket.io';

const server = http.createServer();
const io = new Server(server);
const seen = [];
io.engine.use((req, res, next) => {
  seen.push(`${req.headers.upgrade ?? 'polling'}: appendHeader is ${typeof res.appendHeader}`);
  if (req.url.includes('who=stranger')) {
    res.writeHead(401, { 'Content-Type': 'text/plain', 'Set-Cookie': 'by=writeHead' });
    return res.end('sign in first');
  }
  res.setHeader('Set-Cookie', 'by=setHeader');
  next();
});
await once(server.listen(0, '127.0.0.1'), 'listening');
const { port } = server.address();

/** The answer to one request: its status and cookies, or how it failed. */
function ask(who, transport) {
  const headers =
    transport === 'websocket'
      ? { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' }
      : {};
  return new Promise(resolve => {
    const path = `/socket.io/?EIO=4&transport=${transport}&who=${who}`;
    const request = http.get({ host: '127.0.0.1', port, path, headers, agent: false });
    const answered = (response, socket) => {
      resolve(`${response.statusCode} ${response.headers['set-cookie'] ?? 'no cookie'}`);
      (socket ?? response).destroy();
    };
    request.on('response', answered).on('upgrade', answered).on('error', error => resolve(error.message));
  });
}

const version = name => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
console.log(`socket.io ${version('socket.io')}, engine.io ${version('engine.io')}, Node ${process.version}`);
const answers = {};
for (const who of ['stranger', 'guest'])
  for (const transport of ['polling', 'websocket']) answers[`${who} by ${transport}`] = await ask(who, transport);
console.log(answers);
console.log([...new Set(seen)]);
assert.deepEqual(answers, {
  'stranger by polling': '401 by=writeHead',
  'stranger by websocket': 'socket hang up',
  'guest by polling': '200 by=setHeader',
  'guest by websocket': '101 by=setHeader',
});
assert.deepEqual([...new Set(seen)], ['polling: appendHeader is function', 'websocket: appendHeader is undefined']);
io.close();
process.exit(0);
PROGRAM
node program.mjs
