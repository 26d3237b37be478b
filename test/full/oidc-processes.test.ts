import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { CookieClient } from '../services/cookie-client.ts';
import { freePort } from '../services/free-port.ts';
import { CLIENT_SECRET, OidcProvider } from '../services/oidc-provider.ts';
import { type Place, SHARED_PLACES, skipNote } from '../session/race-stores.ts';

// What a ledger must do is tested on each; these two keep it in the most different ways.
const KEPT_IN = SHARED_PLACES.filter(({ name }) => name === 'lmdb' || name === 'redis');
const PROGRAM = fileURLToPath(new URL('oidc-server.ts', import.meta.url));

describe.each(KEPT_IN.map(place => ({ ...place, title: `${place.name}${skipNote(place)}` })))(
  'processes that share sessions on $title',
  ({ missing, open }) => {
    let folder: string;
    let place: Place;
    let provider: OidcProvider;
    let ports: [number, number];
    const processes: (ChildProcess | undefined)[] = [];

    async function start(index: number): Promise<void> {
      const args = [place.address, join(folder, 'key'), String(ports[index]), provider.issuer, join(folder, 'secret')];
      const child = spawn(process.execPath, ['-C', 'holdfast-source', PROGRAM, ...args], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      processes[index] = child;
      await once(createInterface(child.stdout), 'line');
    }
    async function stop(index: number, signal?: 'SIGKILL'): Promise<void> {
      const child = processes[index];
      processes[index] = undefined;
      if (!child || child.exitCode !== null) return;
      if (signal) child.kill(signal);
      else child.stdin!.end();
      await once(child, 'exit');
    }
    const at = (path: string, index = 0) => `http://localhost:${ports[index]}${path}`;
    /** As a balancer does that sends a request to the other process: the URL stays the same. */
    const throughOther = (client: CookieClient, url: URL) =>
      client.ask(new URL(url.href.replace(`:${ports[0]}`, `:${ports[1]}`)), {
        headers: { host: `localhost:${ports[0]}` },
      });

    beforeAll(async () => {
      if (missing) return;
      folder = mkdtempSync(join(tmpdir(), 'holdfast-oidc-'));
      writeFileSync(join(folder, 'key'), `${'k'.repeat(43)}\n`);
      writeFileSync(join(folder, 'secret'), CLIENT_SECRET);
      ports = [await freePort(), await freePort()];
      provider = await OidcProvider.start({ clients: ports.map(port => `http://localhost:${port}`) });
      place = await open();
      await start(0);
      await start(1);
    });
    afterAll(async () => {
      if (missing) return;
      await Promise.all([stop(0), stop(1)]);
      await provider.close();
      await place.close();
      rmSync(folder, { recursive: true });
    });

    test.skipIf(missing)('a login goes on in another one, although the first was killed in between', async () => {
      const client = new CookieClient();
      const { url } = await client.open(at('/cart'), next => next.pathname.endsWith('/callback'));
      await stop(0, 'SIGKILL');
      const done = await throughOther(client, url);
      expect([done.status, done.headers.location]).toEqual([303, '/cart']);
      await start(0);
      expect(JSON.parse((await client.ask(at('/cart'))).body)).toEqual({ name: 'alice', email: 'alice@example.com' });
      // What was used in one process was used in all.
      client.forget('localhost', 'holdfast');
      expect((await client.ask(url)).status).toBe(400);
    });

    test.skipIf(missing)('a logout at the provider closes the sockets of all of them within a second', async () => {
      const client = new CookieClient();
      await client.open(at('/'));
      const headers = { cookie: client.cookieHeader('localhost') };
      const sockets = [0, 1, 0, 1].map(i => new WebSocket(at('/socket', i).replace('http', 'ws'), { headers }));
      await Promise.all(sockets.map(socket => once(socket, 'open')));
      const closed = Promise.all(
        sockets.map(async socket => [(await once(socket, 'close'))[0], performance.now()] as const),
      );
      const page = await client.ask(`${provider.issuer}/session/end`);
      const xsrf = /name="xsrf" value="(\w+)"/.exec(page.body)![1]!;
      const before = performance.now();
      await client.ask(`${provider.issuer}/session/end/confirm`, { form: { xsrf, logout: 'yes' } });
      const ends = await closed;
      expect(ends.map(([code]) => code)).toEqual([1008, 1008, 1008, 1008]);
      expect(Math.max(...ends.map(([, time]) => time)) - before).toBeLessThan(1_000);
      expect([(await client.ask(at('/'))).status, (await client.ask(at('/', 1))).status]).toEqual([302, 302]);
    });
  },
);
