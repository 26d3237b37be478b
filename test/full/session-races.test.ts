import { once } from 'node:events';
import { connect as connectSocket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SessionManager } from '../../src/session/manager.ts';
import { FaultyStore, KEY } from '../session/fixture.ts';
import { startRaceProcess } from '../session/race-program.ts';
import { type RaceServer, startRaceServer } from '../session/race-server.ts';
import { connect, PLACES, SHARED_PLACES, skipNote } from '../session/race-stores.ts';

const ROUNDS = 20;

/** Servers that share their sessions, and how to end them. */
interface Cluster {
  readonly urls: readonly string[];
  close(): Promise<void>;
}

async function alone(address: string): Promise<Cluster> {
  return clusterOf(await startRaceServer(new SessionManager({ ...(await connect(address)), keys: [KEY] })));
}

/** A store whose every call takes a while: what a busy disk or a network does. */
async function aloneAndSlow(): Promise<Cluster> {
  const store = new FaultyStore();
  store.before = async () => {
    for (let turns = 0; turns < 20; turns++) await new Promise(resolve => setImmediate(resolve));
  };
  return clusterOf(await startRaceServer(new SessionManager({ store, keys: [KEY] })));
}

async function twoProcesses(address: string): Promise<Cluster> {
  return clusterOf(...(await Promise.all([startRaceProcess(address), startRaceProcess(address)])));
}

function clusterOf(...servers: RaceServer[]): Cluster {
  return {
    urls: servers.map(({ url }) => url),
    close: async () => void (await Promise.all(servers.map(server => server.close()))),
  };
}

const memory = PLACES.find(({ name }) => name === 'memory')!;

/** The races that other session libraries lose in each of their rounds, over real connections, in strict coherence. */
describe.each([
  { ...memory, title: 'memory', start: alone },
  { ...memory, title: 'a slow memory', start: aloneAndSlow },
  ...SHARED_PLACES.map(place => ({
    ...place,
    title: `two processes on ${place.name}${skipNote(place)}`,
    start: twoProcesses,
  })),
])('with $title', ({ missing, open, start }) => {
  let close = async () => {};
  let cluster: Cluster;
  beforeAll(async () => {
    if (missing) return;
    const place = await open();
    close = place.close;
    cluster = await start(place.address);
    close = async () => {
      await cluster.close();
      await place.close();
    };
  });
  afterAll(() => close());

  interface Visit {
    readonly response: Response;
    /** As the browser has it afterwards. */
    readonly cookie: string;
  }

  /** A request to the process of this number; numbers go round. */
  async function visit(
    process: number,
    path: string,
    cookie = '',
    headers: Record<string, string> = {},
  ): Promise<Visit> {
    const url = cluster.urls[process % cluster.urls.length] + path;
    const response = await fetch(url, { headers: { cookie, ...headers }, redirect: 'manual' });
    // A write may meet a logout.
    if (response.status !== 401)
      expect(response.status, await (response.status >= 400 ? response.text() : '')).toBeLessThan(400);
    const jar = new Map(cookie.split('; ').map(text => text.split('=', 2) as [string, string]));
    for (const line of response.headers.getSetCookie()) {
      const [name, value] = line.split(';', 1)[0]!.split('=', 2) as [string, string];
      jar.set(name, value);
    }
    jar.delete('');
    return { response, cookie: Array.from(jar, pair => pair.join('=')).join('; ') };
  }
  async function read(process: number, cookie: string): Promise<{ id?: string; data?: Record<string, unknown> }> {
    return JSON.parse(await (await visit(process, '/', cookie)).response.text());
  }
  async function count(): Promise<number> {
    return Number(await (await visit(0, '/count')).response.text());
  }

  test.skipIf(missing)('four parallel requests that each set another key lose none of them', async () => {
    let lost = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const { cookie } = await visit(round, '/in');
      await Promise.all(['a', 'b', 'c', 'd'].map((key, index) => visit(index, `/set?value=${key}`, cookie)));
      for (const process of [0, 1]) {
        const { data } = await read(process, cookie);
        lost += ['a', 'b', 'c', 'd'].filter(key => data?.[key] !== 'here').length;
      }
    }
    expect(lost).toBe(0);
  });

  test.skipIf(missing)('a logout while a request that writes is on its way stays a logout', async () => {
    let resurrected = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const { cookie } = await visit(round, '/in');
      const late = visit(round, `/slow?gate=logout-${round}&value=${round}`, cookie);
      await visit(round, `/reached?gate=logout-${round}`);
      const logout = visit(round + 1, '/logout', cookie);
      // In every other round the write meets the logout on its way.
      if (round % 2 === 0) await logout;
      await visit(round, `/go?gate=logout-${round}`);
      const [{ response }] = await Promise.all([late, logout]);
      // Its client hears that nothing was saved, unless that was before the logout.
      expect(round % 2 === 0 ? [401] : [200, 401]).toContain(response.status);
      for (const process of [0, 1]) if ((await read(process, cookie)).id !== undefined) resurrected++;
    }
    expect(resurrected).toBe(0);
    expect(await count()).toBe(ROUNDS); // of the test before
  });

  test.skipIf(missing)(
    'five frames of a page without a session make one session and get five equal cookies',
    async () => {
      const before = await count();
      for (let round = 0; round < ROUNDS; round++) {
        // Every other browser is an old one, or speaks plain http: it does not say what it wants a page for.
        const says = (destination: string): Record<string, string> =>
          round % 2 === 0 ? { 'sec-fetch-dest': destination } : { accept: 'text/html,*/*;q=0.5' };
        const page = await visit(round, '/page', '', says('document'));
        const frames = await Promise.all(
          ['a', 'b', 'c', 'd', 'e'].map((key, index) => visit(index, `/set?value=${key}`, page.cookie, says('iframe'))),
        );
        expect(new Set(frames.map(({ cookie }) => cookie)).size).toBe(1);
        for (const process of [0, 1]) {
          const { data } = await read(process, frames[0]!.cookie);
          expect(Object.keys(data ?? {}).sort()).toEqual(['a', 'b', 'c', 'd', 'e']);
        }
      }
      expect((await count()) - before).toBe(ROUNDS);
    },
  );

  test.skipIf(missing)('of five parallel first requests of a browser only the page makes a session', async () => {
    const before = await count();
    for (let round = 0; round < ROUNDS; round++) {
      const kinds: Record<string, string>[] =
        round % 2 === 0
          ? ['document', 'iframe', 'empty', 'image', 'script'].map(kind => ({ 'sec-fetch-dest': kind }))
          : ['text/html', '*/*', 'application/json', 'image/avif,*/*', '*/*'].map(accept => ({ accept }));
      const answers = await Promise.all(kinds.map((headers, index) => visit(round + index, '/auto', '', headers)));
      expect(answers.map(({ cookie }) => cookie !== '')).toEqual([true, false, false, false, false]);
    }
    expect((await count()) - before).toBe(ROUNDS);
  });

  /** Resolves at the first byte of the answer, which may have been the only one so far. */
  async function firstByte(process: number, path: string, cookie: string): Promise<{ text: string; end(): void }> {
    const { hostname, port, host } = new URL(cluster.urls[process % cluster.urls.length]!);
    const socket = connectSocket(Number(port), hostname);
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nCookie: ${cookie}\r\n\r\n`);
    const [chunk] = await once(socket, 'data');
    return { text: String(chunk), end: () => socket.destroy() };
  }

  test.skipIf(missing)(
    'who follows a redirect at its first byte finds what the redirecting request wrote',
    async () => {
      const { cookie } = await visit(0, '/in');
      for (let round = 0; round < ROUNDS; round++) {
        const answer = await firstByte(round, `/post?value=${round}`, cookie);
        expect((await read(round + 1, cookie)).data?.written).toBe(String(round));
        expect(answer.text).toMatch(/^HTTP\/1.1 303 /);
        answer.end();
      }
    },
  );

  test.skipIf(missing)('who sees the first byte of a response finds what was written before it', async () => {
    const { cookie } = await visit(0, '/in');
    for (let round = 0; round < ROUNDS; round++) {
      const answer = await firstByte(round, `/stream?value=${round}&gate=stream-${round}`, cookie);
      expect((await read(round + 1, cookie)).data?.written).toBe(String(round));
      await visit(round, `/go?gate=stream-${round}`);
      answer.end();
    }
  });
});
