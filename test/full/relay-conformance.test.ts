import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { createServer, defineEndpoint, type Server } from '../../src/index.ts';

interface Verdict {
  readonly id: string;
  readonly behavior: string;
  readonly close: string;
}

/** The cases whose outcome RFC 6455 leaves open, and in which the relay judges before the backend does: 7.1.6, 7.13.1 and 7.13.2. */
const UNDECIDED = /^(?:7\.1\.6|7\.13\.\d)$/;

const folder =
  process.env.HOLDFAST_CONFORMANCE ?? fileURLToPath(new URL('../../../shared/conformance', import.meta.url));
const present = existsSync(join(folder, 'autobahn-replay.mjs'));
if (!present)
  console.log(`conformance cases not found in ${folder}: skipped; set HOLDFAST_CONFORMANCE to their folder`);

const LIMIT = 64 * 1024 * 1024;
const GROUPS = [
  ['protocol', 247, ['1.*,2.*,3.*,4.*,5.*,6.*,7.*,10.*']],
  ['large messages', 54, ['9.*', '--jobs', '2']],
  ['permessage-deflate', 216, ['12.*,13.*', '--count', '50', '--jobs', '4']],
] as const;

const echo = defineEndpoint({
  path: '/echo',
  compression: { threshold: 0 },
  maxMessageSize: LIMIT,
  maxFragments: 1_000_000,
  maxBufferedAmount: LIMIT,
  onMessage(connection, data) {
    connection.send(data);
  },
});
const own = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  routes: [{ endpoint: echo }],
  log: { level: 'silent' },
});
const ws = new WebSocketServer({
  port: 0,
  host: '127.0.0.1',
  maxPayload: LIMIT,
  perMessageDeflate: { threshold: 0 },
});
ws.on('connection', socket => {
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
await once(ws, 'listening');
let relay: Server;
let reports: string;

beforeAll(async () => {
  await own.start();
  relay = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: false,
    upstreams: {
      own: { servers: [own.urls[0]!] },
      ws: { servers: [`http://127.0.0.1:${(ws.address() as AddressInfo).port}`] },
    },
    routes: [
      { path: '/echo', upstream: 'own', websocket: { maxMessageSize: LIMIT } },
      { path: '/ws', upstream: 'ws', websocket: { maxMessageSize: LIMIT } },
    ],
    log: { level: 'silent' },
  });
  await relay.start();
  reports = await mkdtemp(join(tmpdir(), 'holdfast-relay-conformance-'));
});

afterAll(async () => {
  await relay.stop();
  await own.stop();
  for (const client of ws.clients) client.terminate();
  ws.close();
  await rm(reports, { recursive: true });
});

let runs = 0;

async function verdicts(target: string, args: readonly string[]): Promise<Verdict[]> {
  const report = join(reports, `${runs++}.json`);
  const url = target.replace(/^http/, 'ws');
  const replay = [join(folder, 'autobahn-replay.mjs'), join(folder, 'autobahn-cases.json'), url, ...args];
  // It exits with 1 on failures; the report says more than its output.
  await promisify(execFile)(process.execPath, [...replay, '--json', report]).catch(() => {});
  return (
    (JSON.parse(readFileSync(report, 'utf8')) as Verdict[])
      .filter(({ id }) => !UNDECIDED.test(id))
      .map(({ id, behavior, close }) => ({ id, behavior, close }))
      // Several run at once, and end in any order.
      .sort((a, b) => a.id.localeCompare(b.id))
  );
}

describe.skipIf(!present).each([
  ['our own echo', () => new URL('/echo', own.urls[0]).href, '/echo'],
  ['ws', () => `http://127.0.0.1:${(ws.address() as AddressInfo).port}/`, '/ws'],
] as const)('every verdict through the relay to %s is that of the direct way', (_, direct, path) => {
  test.each(GROUPS)('%s (%i cases)', async (_name, count, args) => {
    const through = await verdicts(new URL(path, relay.urls[0]).href, args);
    expect(through.length).toBeGreaterThanOrEqual(count - 3);
    expect(through).toEqual(await verdicts(direct(), args));
  });
});
