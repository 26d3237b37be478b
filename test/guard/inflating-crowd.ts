import http2 from 'node:http2';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { deflateRawSync, constants as zlib } from 'node:zlib';
import { frame } from '../websocket/raw-client.ts';
import { emptyBlocks } from './empty-blocks.ts';

/*
 * Clients that send nothing but small frames which inflate to the limit, as fast as they are read:
 * `inflating-crowd.ts URL WIRE PATH COUNT BYTES`. No bytes: large frames which inflate to nothing, slowly. Prints
 * `ready` when all are connected. Ends with its standard input.
 */

const [url, wire, path, count, bytes] = process.argv.slice(2) as [string, string, string, string, string];
const STREAMS_PER_CONNECTION = 50;
const { hostname: host, port, host: authority } = new URL(url);
const shrunk =
  Number(bytes) === 0
    ? emptyBlocks(60 * 1024)
    : deflateRawSync(Buffer.alloc(Number(bytes)), { finishFlush: zlib.Z_SYNC_FLUSH }).subarray(0, -4);
const one = frame(2, shrunk, { rsv1: true });
const burst = Buffer.concat(Array<Buffer>(Math.max(1, Math.floor((64 * 1024) / one.length))).fill(one));
const EXTENSION = 'permessage-deflate; client_no_context_takeover';

const head =
  `GET ${path} HTTP/1.1\r\nHost: ${authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
  `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: ${EXTENSION}\r\n\r\n`;

function flood(stream: Duplex): void {
  const write = () => {
    while (stream.write(burst));
  };
  stream.on('drain', write).on('error', () => {});
  stream.resume();
  write();
}

async function openByHttp1(): Promise<Duplex> {
  const socket =
    wire === 'tls'
      ? connectTls({ host, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] })
      : connect({ host, port: Number(port) });
  socket.on('error', () => {});
  socket.write(head);
  await new Promise<void>(resolve => socket.once('data', () => resolve()));
  return socket;
}

async function openByHttp2(session: http2.ClientHttp2Session): Promise<Duplex> {
  const stream = session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':path': path,
    ':authority': authority,
    ':scheme': 'https',
    'sec-websocket-version': '13',
    'sec-websocket-extensions': EXTENSION,
  });
  stream.on('error', () => {});
  await new Promise<void>(resolve => stream.once('response', () => resolve()));
  return stream;
}

const streams: Duplex[] = [];
while (streams.length < Number(count)) {
  if (wire !== 'http/2') {
    streams.push(await openByHttp1());
    continue;
  }
  const session = http2.connect(`https://${authority}`, { rejectUnauthorized: false });
  session.on('error', () => {});
  await new Promise<void>(resolve => session.once('remoteSettings', () => resolve()));
  for (let n = 0; n < STREAMS_PER_CONNECTION && streams.length < Number(count); n++)
    streams.push(await openByHttp2(session));
}
for (const stream of streams) flood(stream);
console.log('ready');
process.stdin.resume().on('end', () => process.exit());
