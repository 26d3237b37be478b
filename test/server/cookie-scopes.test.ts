import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'holdfast';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Logger } from '../../src/base/logger.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { FaultyStore } from '../session/fixture.ts';
import { Http2Client } from './http2-client.ts';

// Browsers keep a cookie of each domain and path, and send all that match. When `cookie.domain` changes between releases,
// a visitor has one of each.

const folder = mkdtempSync(join(tmpdir(), 'holdfast-cookie-scopes-'));
const tls = writeSelfSignedCertificate(folder);
afterAll(() => rmSync(folder, { recursive: true }));

const HOST = 'www.shop.test';
const HOUR = 3_600_000;

/** What a browser at `HOST` keeps. The one that was set first is sent first. */
class Jar {
  readonly cookies = new Map<string, string>();

  take(lines: readonly string[]): void {
    for (const line of lines) {
      const [pair, ...attributes] = line.split('; ') as [string, ...string[]];
      const at = pair.indexOf('=');
      const domain = attributes.find(text => text.startsWith('Domain='))?.slice('Domain='.length) ?? '';
      const key = `${pair.slice(0, at)} ${domain}`;
      if (attributes.includes('Max-Age=0')) this.cookies.delete(key);
      else this.cookies.set(key, pair);
    }
  }

  get header(): string {
    return [...this.cookies.values()].join('; ');
  }

  get domains(): string[] {
    return [...this.cookies.keys()].filter(key => key.startsWith('sid ')).map(key => key.slice('sid '.length));
  }
}

describe.each(['HTTP/1', 'TLS', 'HTTP/2'])('over %s', protocol => {
  let store: FaultyStore;
  let clock: FakeClock;
  let jar: Jar;
  let log: Record<string, unknown>[];
  let server: Server;

  /** The next release, with this domain, on the sessions of the one before. */
  async function release(domain?: string): Promise<void> {
    const write = (fields: object, message: string) => void log.push({ ...fields, message });
    const logger: Logger = { debug: write, info: write, warn: write, error: write };
    server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1', ...(protocol !== 'HTTP/1' && { tls }) }],
        dataFolder: folder,
        session: {
          store,
          idleTimeout: '1d',
          absoluteTimeout: '7d',
          cookie: { name: 'sid', ...(domain && { domain }) },
        },
        routes: [
          { path: '/open', session: 'create', fetch: (_request, { session }) => new Response(session!.id) },
          {
            path: '/show',
            fetch: (_request, { session }) => new Response(`${session?.id} ${session?.owner?.name}`),
          },
          {
            path: '/sign-in/:name',
            fetch: async (request, { params }) =>
              new Response((await server.sessions.signIn(request, { name: params.name!, roles: [] })).id),
          },
          {
            path: '/sign-out',
            fetch: async (_request, { session }) => {
              await session?.invalidate();
              return new Response();
            },
          },
        ],
        log: { access: 'off' },
      },
      { clock, logger },
    );
    await server.start();
  }

  async function stop(): Promise<void> {
    const { close } = store;
    store.close = async () => {};
    await server.stop({ drain: 0 });
    store.close = close;
  }

  async function ask(path: string, cookie = jar.header): Promise<string> {
    if (protocol === 'HTTP/2') {
      using client = await Http2Client.connect(server.urls[0]!);
      const answer = await client.get(path, { ':authority': HOST, ...(cookie && { cookie }) });
      jar.take(answer.headers['set-cookie'] ?? []);
      return answer.body;
    }
    const headers = { host: HOST, ...(cookie && { cookie }) };
    const { request } = protocol === 'TLS' ? https : http;
    const options = { agent: false, rejectUnauthorized: false, headers };
    const [answer] = (await once(request(new URL(path, server.urls[0]), options).end(), 'response')) as [
      http.IncomingMessage,
    ];
    let body = '';
    for await (const chunk of answer.setEncoding('utf8')) body += chunk;
    jar.take(answer.headers['set-cookie'] ?? []);
    return body;
  }

  beforeEach(async () => {
    store = new FaultyStore();
    clock = new FakeClock();
    jar = new Jar();
    log = [];
  });
  afterEach(stop);

  const events = () =>
    log.flatMap(({ event }) => (/session-end|stop|start|^certificate-/.test(String(event)) ? [] : [event]));

  test.each([
    [undefined, 'shop.test'],
    ['shop.test', undefined],
    ['shop.test', HOST],
  ])('a visitor goes on when the domain changes from %s to %s, and signs in and out', async (before, after) => {
    await release(before);
    const sid = await ask('/open');
    await stop();
    await release(after);
    expect(await ask('/show')).toBe(`${sid} undefined`);
    await clock.advance(4 * HOUR);
    await ask('/show'); // rotates
    expect(jar.domains).toHaveLength(2);
    for (let minutes = 0; minutes < 5; minutes++) {
      expect(await ask('/show')).toBe(`${sid} undefined`);
      // Whichever is sent first.
      expect(await ask('/show', jar.header.split('; ').reverse().join('; '))).toBe(`${sid} undefined`);
      await clock.advance(60_000);
    }
    expect(await ask('/sign-in/ann')).toBe(sid);
    // What is of the host alone can be taken back; of another domain it is not known which.
    if (before === undefined) expect(jar.domains).toEqual([after]);
    expect(await ask('/show')).toBe(`${sid} ann`);
    await clock.advance(2 * 60_000);
    expect(await ask('/show')).toBe(`${sid} ann`);
    await ask('/sign-out');
    expect(await ask('/show')).toBe('undefined undefined');
    const again = await ask('/sign-in/ann');
    expect(await ask('/show')).toBe(`${again} ann`);
    expect(events()).toEqual([]);
  });

  /** Two sessions at once: the second one was begun on another host of the domain. */
  async function two(owners: readonly (string | undefined)[]): Promise<string[]> {
    const sids: string[] = [];
    for (const [index, owner] of owners.entries()) {
      await release(index === 0 ? undefined : 'shop.test');
      const elsewhere = index === 0 ? jar.header : '';
      sids.push(await ask(owner === undefined ? '/open' : `/sign-in/${owner}`, elsewhere));
      await clock.advance(1_000);
      if (index === 0) await stop();
    }
    return sids;
  }

  test.each([
    [[undefined, undefined], 'neither'],
    [['bob', undefined], 'neither'],
    [['ann', undefined], 'first'],
    [[undefined, 'ann'], 'second'],
    [['bob', 'ann'], 'second'],
    [['ann', 'ann'], 'second'],
  ] as const)('of two live sessions of %j a login of ann keeps %s and ends the rest', async (owners, kept) => {
    const sids = await two(owners);
    expect(await ask('/show')).toBe('undefined undefined');
    const sid = await ask('/sign-in/ann');
    expect(sids.indexOf(sid)).toBe(['first', 'second'].indexOf(kept));
    for (let requests = 0; requests < 3; requests++) expect(await ask('/show')).toBe(`${sid} ann`);
    expect(await store.count()).toBe(1);
    expect(jar.domains).toEqual(['shop.test']);
  });
});
