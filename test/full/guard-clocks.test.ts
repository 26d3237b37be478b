import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';
import { postgresMissing, startPostgres } from '../services/postgres-server.ts';
import { redisIsMissing, startRedis } from '../services/redis-server.ts';

const application = `
const handle = async (request, { session, params }) => {
  if (params.verb === 'login') await session?.renew({ owner: { name: 'ann', roles: [] } });
  return Response.json({ owner: session?.owner?.name, now: Date.now(), idleMs: session && session.lastAccessedAt });
};
export default defineConfig({
  listen,
  session: { store: process.env.STORE, keyFiles: ['key'], cookie: { name: 'sid' }, sweep: { every: '200ms' } },
  routes: [
    { path: '/in/:verb', session: 'create', fetch: handle },
    { path: '/page', session: 'auto', fetch: handle },
    { path: '/:verb', session: 'existing', fetch: handle },
  ],
  log: { access: 'off' },
});`;
const MINUTES_31 = 31 * 60_000;
/** A machine whose clock says something else, and may be set. */
const otherClock = (ms: number) => `const { now } = Date;
let offset = ${ms};
Date.now = () => now() + offset;
process.on('SIGUSR2', () => { offset += ${MINUTES_31}; });
`;

describe.each([
  ['redis', redisIsMissing, () => startRedis()],
  ['postgres', postgresMissing, () => startPostgres()],
] as const)('processes of machines with different clocks, on %s', (_, missing, start) => {
  let store: { readonly url: string; stop(): Promise<void> };
  let served: Record<'right' | 'ahead' | 'behind', Served>;
  beforeAll(async () => {
    if (missing) return;
    store = await start();
    const serve = (ms: number) =>
      Served.module(application, {
        files: { key: 'k'.repeat(43), 'clock.mjs': otherClock(ms) },
        env: { STORE: store.url, NODE_OPTIONS: '--import ./clock.mjs' },
      });
    const [right, ahead, behind] = await Promise.all([serve(0), serve(MINUTES_31), serve(-MINUTES_31)]);
    served = { right, ahead, behind };
  });
  afterAll(async () => {
    await Promise.all(Object.values(served ?? {}).map(each => each[Symbol.asyncDispose]()));
    await store?.stop();
  });

  async function ask(name: keyof typeof served, path: string, cookie: string, headers = {}) {
    const url = `${served[name].url('http/1')}${path}`;
    const response = await fetch(url, { headers: { ...headers, ...(cookie && { cookie }) } });
    expect(response.status, path).toBe(200);
    const given = response.headers.getSetCookie().map(line => line.split(';')[0]!);
    return { ...((await response.json()) as { owner?: string; now: number; idleMs?: number }), given };
  }

  test.skipIf(missing)('sign nobody out, sweep nothing early, and say how far they are off', async () => {
    for (const name of ['right', 'ahead', 'behind'] as const) {
      const begun = await ask(name, '/in/login', '');
      const [cookie] = begun.given;
      const until = performance.now() + 700; // some sweeps
      do
        for (const other of ['right', 'ahead', 'behind'] as const)
          expect(await ask(other, '/read', cookie!), `begun ${name}, read ${other}`).toMatchObject({ owner: 'ann' });
      while (performance.now() < until);
    }
    const offsetOf = (each: Served) => each.logged().find(({ event }) => event === 'store-clock-offset')?.offsetMs;
    expect(offsetOf(served.right)).toBeUndefined();
    expect(Math.abs(Number(offsetOf(served.ahead)) - MINUTES_31)).toBeLessThan(1_000);
    expect(Math.abs(Number(offsetOf(served.behind)) + MINUTES_31)).toBeLessThan(1_000);
  });

  test.skipIf(missing)('let the parts of a page make one session wherever they are served', async () => {
    const page = { 'sec-fetch-dest': 'document', accept: 'text/html' };
    const { given } = await ask('ahead', '/read', '', page);
    const sids = new Set<string>();
    for (const name of ['ahead', 'right', 'behind'] as const) {
      const part = await ask(name, '/in/read', given.join('; '));
      sids.add(part.given.find(cookie => cookie.startsWith('sid='))!.split('.')[1]!);
    }
    expect(sids.size).toBe(1);
  });

  test.skipIf(missing)('sign nobody out when the clock of one is set while it runs', async () => {
    const { given } = await ask('right', '/in/login', '');
    const { now } = await ask('right', '/read', given[0]!);
    served.right.program.kill('SIGUSR2');
    await expect
      .poll(async () => (await ask('right', '/read', given[0]!)).now - now, { timeout: 15_000 })
      .toBeGreaterThan(1e6);
    for (const name of ['right', 'ahead', 'behind'] as const)
      expect(await ask(name, '/read', given[0]!)).toMatchObject({ owner: 'ann' });
    await expect.poll(() => served.right.logged().some(({ event }) => event === 'store-clock-offset')).toBe(true);
  });
});
