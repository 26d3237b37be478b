import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runHoldfast } from '../cli/run-holdfast.ts';
import { freePort } from '../services/free-port.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../services/postgres-server.ts';
import { type RedisServer, redisIsMissing, startRedis } from '../services/redis-server.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-check-probe-'));
  writeFileSync(join(folder, 'key'), 'a-key-of-sessions-that-is-long-enough-for-all');
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What `check --probe` warns of, without the line that says where to read. */
async function probed(yaml: string): Promise<string[]> {
  writeFileSync(join(folder, 'holdfast.yaml'), `${yaml}\nroutes: [{ path: /a, redirect: /b }]\n`);
  const { code, stdout } = await runHoldfast(['check', '--probe', '--json'], { cwd: folder });
  expect([code, JSON.parse(stdout).errors]).toEqual([0, []]);
  expect(stdout).not.toMatch(/hunter2/);
  return JSON.parse(stdout).warnings.map(
    ({ path, message, code }: { path: string; message: string; code: string }) => `${path}: ${message} [${code}]`,
  );
}

const store = (url: string) => probed(`session: { store: "${url}", keyFiles: [key] }`);

test.each(['redis', 'postgres'])('a port where no %s listens is named with what to do', async kind => {
  const port = await freePort();
  expect(await store(`${kind}://someone:hunter2@127.0.0.1:${port}`)).toEqual([
    expect.stringMatching(
      new RegExp(
        `^session\\.store: 127\\.0\\.0\\.1:${port}: .*ECONNREFUSED.*nothing listens there.*\\[store-probe\\]$`,
      ),
    ),
  ]);
});

describe.skipIf(redisIsMissing)('a Redis', () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
    await redis.cli('CONFIG', 'SET', 'requirepass', 'right');
  });
  afterAll(() => redis.stop());

  test.each<[what: string, url: () => string, warnings: unknown[]]>([
    ['that lets in', () => `redis://:right@127.0.0.1:${redis.port}`, []],
    ['with another password', () => `redis://:hunter2@127.0.0.1:${redis.port}`, [/user or password is wrong/]],
    ['that asks for a password', () => `redis://127.0.0.1:${redis.port}`, [/it asks for a password/]],
    ['without that database', () => `redis://:right@127.0.0.1:${redis.port}/99`, [/no database of that number/]],
    ['without TLS', () => `rediss://:right@127.0.0.1:${redis.port}`, [/TLS/]],
  ])('%s', async (_, url, warnings) => {
    expect(await store(url())).toEqual(warnings.map(warning => expect.stringMatching(warning as RegExp)));
  });
});

describe.skipIf(postgresMissing)('a PostgreSQL', () => {
  let postgres: PostgresServer;
  beforeAll(async () => {
    postgres = await startPostgres();
  }, 60_000);
  afterAll(() => postgres.stop());

  test('that lets in, and is not changed', async () => {
    expect(await store(postgres.url)).toEqual([]);
  });

  test.each<[what: string, change: (url: URL) => void, warning: RegExp]>([
    ['without that database', url => (url.pathname = '/nowhere'), /there is no such database/],
    ['without that user', url => (url.username = 'nobody-there'), /user|password/],
    ['without TLS', url => url.searchParams.set('sslmode', 'require'), /does not speak TLS there/],
  ])('%s', async (_, change, warning) => {
    const url = new URL(postgres.url);
    change(url);
    expect(await store(url.href)).toEqual([expect.stringMatching(warning)]);
  });
});

describe('an issuer', () => {
  let server: Server;
  let origin: string;
  beforeAll(async () => {
    server = createServer(({ url }, response) => {
      if (url === '/.well-known/openid-configuration') response.end(JSON.stringify({ issuer: origin }));
      else if (url === '/other/.well-known/openid-configuration') response.end(JSON.stringify({ issuer: origin }));
      else if (url === '/text') response.end('<html>');
      else if (url === '/none') response.end('{"keys":[]}');
      else response.writeHead(404).end();
    });
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => server.close());

  const oidc = (path: string) =>
    `auth: { a: { type: oidc, issuer: "${origin}${path}", clientId: b, clientSecretFile: key } }`;
  const jwt = (path: string) => `auth: { a: { type: jwt, issuer: a, audience: b, jwksUri: "${origin}${path}" } }`;

  test.each<[what: string, yaml: () => string, warnings: RegExp[]]>([
    ['that is the one of the configuration', () => oidc(''), []],
    [
      'that calls itself otherwise',
      () => oidc('/other'),
      [/^auth\.a\.issuer: .* says that the issuer is "http.*write exactly that.*issuer-probe/],
    ],
    ['without metadata', () => oidc('/none'), [/answered 404 instead of 200.*issuer-probe/]],
    ['without keys', () => jwt('/missing'), [/^auth\.a\.jwksUri: .* answered 404.*keys-probe/]],
    ['with a page in the place of keys', () => jwt('/text'), [/keys-probe/]],
    ['with an empty set of keys', () => jwt('/none'), [/keys-probe/]],
  ])('%s', async (_, yaml, warnings) => {
    expect(await probed(yaml())).toEqual(warnings.map(warning => expect.stringMatching(warning)));
  });
});
