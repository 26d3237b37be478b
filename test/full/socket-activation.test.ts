import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Holdfast } from '../cli/run-holdfast.ts';
import { freePort } from '../services/free-port.ts';
import { until } from '../services/until.ts';

const ACTIVATE = '/usr/bin/systemd-socket-activate';
const isMissing = !existsSync(ACTIVATE);
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error('systemd-socket-activate is not there');

let folder: string;
let program: Holdfast | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-activation-'));
});
afterEach(async () => {
  program?.kill('SIGKILL');
  await program?.ended;
  program = undefined;
  rmSync(folder, { recursive: true });
});

/** It opens the sockets, and becomes the server with the first client. */
function activate(listen: string, places: readonly string[], names?: string, workers = 1): Holdfast {
  writeConfig(listen, workers);
  const flags = [...places.flatMap(place => ['--listen', place]), ...(names ? [`--fdname=${names}`] : [])];
  program = new Holdfast(['serve', '--no-watch'], { cwd: folder, under: [ACTIVATE, ...flags] });
  return program;
}

function writeConfig(listen: string, workers = 1): void {
  writeFileSync(
    join(folder, 'holdfast.config.ts'),
    `export default {
       listen: ${listen},
       workers: ${workers},
       session: false,
       routes: [
         { path: '/pid', fetch: () => new Response(String(process.pid)) },
         { path: '/variables', fetch: () => Response.json(Object.keys(process.env)) },
         { path: '/a', redirect: '/b' },
         { path: '/denied', redirect: '/b', policy: { addresses: { deny: ['127.0.0.2'] } } },
       ],
     };`,
  );
}

/** Tried again only until somebody listens: from then on nobody is turned away. */
async function get(url: string): Promise<Response> {
  return await until(() =>
    fetch(url, { redirect: 'manual' }).catch(error => {
      if (error.cause?.code === 'ECONNREFUSED') return undefined;
      throw error;
    }),
  );
}

describe.skipIf(isMissing)('sockets that systemd has opened', () => {
  test('are served by their names, and the client that woke the server is answered', async () => {
    const [one, two] = [await freePort(), await freePort()];
    const listen = `[{ activation: 'two', hosts: ['localhost'] }, { activation: 'one' }]`;
    const server = activate(listen, [`127.0.0.1:${one}`, `127.0.0.1:${two}`], 'one:two');
    expect((await get(`http://127.0.0.1:${one}/a`)).status).toBe(308);
    expect((await get(`http://localhost:${two}/a`)).status).toBe(308);
    expect(server.stdout).toBe(`listening on http://localhost:${two}\nlistening on http://localhost:${one}\n`);
    expect(server.stderr).not.toMatch(/socket-unused/);
    server.kill('SIGTERM');
    expect(await server.ended).toBe(0);
  });

  test('are shared by workers, who know nothing of the variables', async () => {
    const port = await freePort();
    const server = activate(`[{ activation: 'web' }]`, [`127.0.0.1:${port}`], 'web', 2);
    const url = `http://127.0.0.1:${port}`;
    expect((await get(`${url}/a`)).status).toBe(308);
    // The first worker serves before the second has started.
    await server.printed(/listening on/);
    const pids = new Set<string>();
    for (let i = 0; i < 10; i++) {
      const [response] = (await once(request(`${url}/pid`, { agent: false }).end(), 'response')) as [IncomingMessage];
      pids.add((await response.toArray()).join(''));
    }
    expect(pids.size).toBe(2);
    expect(pids.has(String(server.process.pid))).toBe(false);
    expect(await (await fetch(`${url}/variables`)).json()).not.toEqual(
      expect.arrayContaining([expect.stringMatching(/^(?:LISTEN|NOTIFY|HOLDFAST_WORKER)/)]),
    );
    server.kill('SIGTERM');
    expect(await server.ended).toBe(0);
  });

  test('of one name are one listener', async () => {
    const ports = [await freePort(), await freePort()];
    activate(
      `[{ activation: 'web' }]`,
      ports.map(port => `127.0.0.1:${port}`),
      'web:web',
    );
    for (const port of ports) expect((await get(`http://127.0.0.1:${port}/a`)).status).toBe(308);
  });

  test('of one name, a TCP port and a socket file, keep the addresses of TCP clients', async () => {
    const port = await freePort();
    activate(`[{ activation: 'web' }]`, [join(folder, 'web.sock'), `127.0.0.1:${port}`], 'web:web');
    await get(`http://127.0.0.1:${port}/a`);
    const asked = request({ port, localAddress: '127.0.0.2', path: '/denied', agent: false }).end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    expect(response.resume().statusCode).toBe(403);
  });

  test('can be let go of and taken again by reloads, and outlive a reload that is refused', async () => {
    const [one, two] = [await freePort(), await freePort()];
    const both = [`127.0.0.1:${one}`, `127.0.0.1:${two}`];
    const server = activate(`[{ activation: 'one' }]`, both, 'one:two');
    await get(`http://127.0.0.1:${one}/a`);
    const reload = async (listen: string, answer: RegExp) => {
      server.stderr = '';
      writeConfig(listen);
      server.kill('SIGHUP');
      await server.printed(answer);
    };
    const status = async (port: number) =>
      (await fetch(`http://127.0.0.1:${port}/a`, { redirect: 'manual' }).catch(() => undefined))?.status;
    await reload(
      `[{ activation: 'one' }, { activation: 'two' }, { activation: 'three' }]`,
      /cannot listen on the socket/,
    );
    expect(await status(one)).toBe(308);
    expect(await status(two)).toBeUndefined();
    for (let times = 0; times < 2; times++) {
      await reload(`[{ activation: 'one' }, { activation: 'two' }]`, /"event":"reloaded"/);
      expect(await status(two)).toBe(308);
      await reload(`[{ activation: 'one' }]`, /"event":"reloaded"/);
      expect(await status(two)).toBeUndefined();
    }
    server.kill('SIGTERM');
    expect(await server.ended).toBe(0);
  });

  test('are served by number, also a socket file, and that stays when the server stops', async () => {
    const path = join(folder, 'web.sock');
    const server = activate('[{ fd: 3 }]', [path]);
    const status = await until(
      () =>
        new Promise<number | undefined>(resolve => {
          request({ socketPath: path, path: '/a', agent: false }, response => resolve(response.resume().statusCode))
            .once('error', () => resolve(undefined))
            .end();
        }),
    );
    expect(status).toBe(308);
    expect(server.stdout).toBe(`listening on unix:${path}\n`);
    server.kill('SIGTERM');
    expect(await server.ended).toBe(0);
    expect(existsSync(path)).toBe(true);
  });

  test('are not known to programs that the server starts', async () => {
    const port = await freePort();
    activate('[{ fd: 3 }]', [`127.0.0.1:${port}`]);
    const variables = (await (await get(`http://127.0.0.1:${port}/variables`)).json()) as string[];
    expect(variables.filter(name => name.startsWith('LISTEN_'))).toEqual([]);
  });

  test('that nobody takes are said in the log', async () => {
    const [one, two] = [await freePort(), await freePort()];
    const places = [`127.0.0.1:${one}`, `127.0.0.1:${two}`];
    const server = activate(`[{ activation: 'one' }]`, places, 'one:spare');
    await get(`http://127.0.0.1:${one}/a`);
    await server.printed(/"event":"socket-unused","name":"spare","fd":4/);
  });

  test.each([
    ['one process', 1],
    ['workers', 2],
  ])(
    'whose listener a reload takes away are said in the log of %s, once until they are served again',
    async (_, workers) => {
      const [one, two] = [await freePort(), await freePort()];
      const both = `[{ activation: 'one' }, { activation: 'two' }]`;
      const server = activate(both, [`127.0.0.1:${one}`, `127.0.0.1:${two}`], 'one:two', workers);
      await get(`http://127.0.0.1:${one}/a`);
      await server.printed(/"event":"started"/);
      const unused = () => server.stderr.match(/"event":"socket-unused".*?"fd":\d+/g) ?? [];
      const reload = async (listen: string) => {
        const reloads = () => server.stderr.match(/"event":"reloaded"/g)?.length ?? 0;
        const before = reloads();
        writeConfig(listen, workers);
        server.kill('SIGHUP');
        await until(() => reloads() > before);
      };
      await reload(both);
      expect(unused()).toEqual([]);
      for (let times = 1; times <= 2; times++) {
        for (let again = 0; again < 2; again++) {
          await reload(`[{ activation: 'one' }]`);
          expect(unused()).toEqual(Array(times).fill('"event":"socket-unused","name":"two","fd":4'));
        }
        await reload(both);
        await get(`http://127.0.0.1:${two}/a`);
      }
    },
  );

  test('that have other names than the configuration end the start, with the names that they have', async () => {
    const port = await freePort();
    const server = activate(`[{ activation: 'web' }]`, [`127.0.0.1:${port}`], 'wep');
    await get(`http://127.0.0.1:${port}/a`).catch(() => {});
    expect(await server.ended).toBe(1);
    expect(server.stderr).toMatch(/cannot listen on the socket "web": .*"wep"; did you mean "wep"\?/);
  });
});
