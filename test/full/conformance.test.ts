import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createServer, defineEndpoint } from 'holdfast';
import { afterAll, beforeAll, expect, test } from 'vitest';

interface Result {
  readonly id: string;
  readonly behavior: string;
  readonly close: string;
  readonly detail: string;
}

/** The cases whose outcome RFC 6455 leaves open: 7.1.6 (a large message racing a close) and 7.13.* (undefined close codes). */
const INFORMATIONAL = ['7.1.6', '7.13.1', '7.13.2'];

const folder =
  process.env.HOLDFAST_CONFORMANCE ?? fileURLToPath(new URL('../../../shared/conformance', import.meta.url));
const present = existsSync(join(folder, 'autobahn-replay.mjs'));
if (!present)
  console.log(`conformance cases not found in ${folder}: skipped; set HOLDFAST_CONFORMANCE to their folder`);

const echo = defineEndpoint({
  path: '/echo',
  compression: { threshold: 0 },
  maxMessageSize: '64MiB',
  maxFragments: 1_000_000,
  maxBufferedAmount: '64MiB',
  onMessage(connection, data) {
    connection.send(data);
  },
});
const server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  routes: [{ endpoint: echo }],
  log: { level: 'error', access: 'off' },
});
let reports: string;

beforeAll(async () => {
  if (!present) return;
  reports = await mkdtemp(join(tmpdir(), 'holdfast-conformance-'));
  await server.start();
});

afterAll(async () => {
  if (!present) return;
  await server.stop();
  await rm(reports, { recursive: true });
});

// One entry for each group of the README beside the cases, with the number of cases it holds there.
test.skipIf(!present).each([
  ['protocol', 247, ['1.*,2.*,3.*,4.*,5.*,6.*,7.*,10.*']],
  ['large messages', 54, ['9.*', '--jobs', '2']],
  ['permessage-deflate', 216, ['12.*,13.*', '--count', '50', '--jobs', '4']],
] as const)('every %s case is OK (%i cases)', async (name, count, args) => {
  const report = join(reports, `${name}.json`);
  const target = new URL('/echo', server.urls[0]);
  target.protocol = 'ws:';
  // It exits with 1 on failures; the report says more than its output.
  await promisify(execFile)(process.execPath, [
    join(folder, 'autobahn-replay.mjs'),
    join(folder, 'autobahn-cases.json'),
    target.href,
    ...args,
    '--json',
    report,
  ]).catch(() => {});
  const results: Result[] = JSON.parse(readFileSync(report, 'utf8'));
  expect(results).toHaveLength(count);
  const unexpected = results.filter(
    ({ id, behavior, close }) =>
      !(behavior === 'OK' || (behavior === 'INFORMATIONAL' && INFORMATIONAL.includes(id))) ||
      !(close === 'OK' || (close === 'INFORMATIONAL' && INFORMATIONAL.includes(id))),
  );
  expect(unexpected).toEqual([]);
});
