#!/usr/bin/env bash
# http-proxy-middleware 4.2.2 (httpxy 0.5.6): cookies in the answer to a WebSocket handshake are not rewritten.
# Its README describes cookieDomainRewrite and cookiePathRewrite as rewriting `set-cookie` headers, and they do for ordinary requests. The answer to a
# handshake, whether it is the 101 or a refusal, passes unchanged, and the proxyRes event, where you could rewrite it yourself, is not emitted for it.
# So a cookie that the backend sets in a handshake reaches the browser with the backend's own domain and path, and a browser ignores a cookie for a
# domain that is not its own. Set such cookies in an answer to an ordinary request, or give the backend the public domain and path.
# Exits non-zero when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund http-proxy-middleware@4.2.2 httpxy@0.5.6 express@5.3.0 ws@8.23.0
cat > program.mjs <<'PROGRAM'
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import express from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { WebSocketServer } from 'ws';

// The backend sends one and the same cookie with whatever it answers.
const cookie = 'place=7; Domain=backend.example; Path=/app';
const backend = http.createServer((_, res) => res.setHeader('Set-Cookie', cookie).end());
const sockets = new WebSocketServer({
  server: backend,
  verifyClient: ({ req }, answer) => answer(req.url !== '/full', 503, 'full', { 'Set-Cookie': cookie }),
});
sockets.on('headers', headers => headers.push(`Set-Cookie: ${cookie}`));
await once(backend.listen(0, '127.0.0.1'), 'listening');

const emitted = [];
const proxy = createProxyMiddleware({
  target: `http://127.0.0.1:${backend.address().port}`,
  ws: true,
  cookieDomainRewrite: { 'backend.example': 'shop.example' },
  cookiePathRewrite: { '/app': '/' },
  on: { proxyRes: response => emitted.push(response.statusCode) },
});
const front = http.createServer(express().use(proxy));
front.on('upgrade', proxy.upgrade);
await once(front.listen(0, '127.0.0.1'), 'listening');

/** Status and cookie of one answer, as a client of the proxy gets them. */
function ask(path, headers = {}) {
  const request = http.get({ host: '127.0.0.1', port: front.address().port, path, headers, agent: false });
  return new Promise((resolve, reject) => {
    const answered = response => resolve(`${response.statusCode} ${response.headers['set-cookie']}`);
    request.on('response', answered).on('upgrade', answered).on('error', reject);
  });
}
const handshake = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
};
const seen = {
  'ordinary request': await ask('/'),
  'handshake that is accepted': await ask('/', handshake),
  'handshake that is refused': await ask('/full', handshake),
  'proxyRes was emitted for': emitted.join(' '),
};
const version = name => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
console.log(`http-proxy-middleware ${version('http-proxy-middleware')}, httpxy ${version('httpxy')}`);
console.log(seen);
assert.deepEqual(seen, {
  'ordinary request': '200 place=7; Domain=shop.example; Path=/',
  'handshake that is accepted': `101 ${cookie}`,
  'handshake that is refused': `503 ${cookie}`,
  'proxyRes was emitted for': '200',
});
process.exit(0);
PROGRAM
node program.mjs
