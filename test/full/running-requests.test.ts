import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { ask } from '../guard/ask.ts';
import { Served, wires } from '../guard/served.ts';
import { PLACES, skipNote } from '../session/race-stores.ts';

// In real time, and with a second process that sweeps: it knows of the requests of the first one by the store alone.

const IDLE_S = 2;
const application = `
const wait = seconds => new Promise(resolve => setTimeout(resolve, seconds * 1_000));
const count = session => session.set('n', (session.get('n') ?? 0) + 1);
export default defineConfig({
  listen,
  session: { store: process.env.STORE, keyFiles: ['key'], idleTimeout: '${IDLE_S}s', sweep: { every: '200ms' }, cookie: { name: 'sid' } },
  routes: [
    { path: '/open', session: 'create', fetch: () => new Response('opened') },
    { path: '/read', fetch: (_request, { session }) => new Response(String(session?.get('n'))) },
    { path: '/poll/:seconds', fetch: async (_request, { session, params }) => {
      await wait(params.seconds);
      count(session);
      return new Response('done');
    } },
    { path: '/events/:seconds', fetch: (_request, { session, params }) => new Response(new ReadableStream({
      async start(controller) {
        for (let second = 0; second < params.seconds; second++) {
          controller.enqueue(Buffer.from('data: ' + second + '\\n\\n'));
          await wait(1);
        }
        count(session);
        controller.close();
      },
    })) },
  ],
  log: { access: 'off' },
});`;

describe.each(PLACES.map(place => ({ place, title: `${place.name}${skipNote(place)}` })))('on $title', ({ place }) => {
  test.skipIf(place.missing)('requests that run for longer than the idle time keep their session', async () => {
    const { address, close } = await place.open();
    const options = { files: { key: randomBytes(32).toString('base64') }, env: { STORE: address } };
    const served = await Served.module(application, options);
    const second = place.name === 'memory' ? undefined : await Served.module(application, options);
    try {
      const header = async (wire: (typeof wires)[number]) => {
        const { setCookies } = await ask(served, wire, { path: '/open' });
        return ['Cookie', setCookies.find(line => line.startsWith('sid='))!.split(';')[0]!];
      };
      const outcomes = await Promise.all(
        wires.flatMap(wire =>
          ['/poll/7', '/events/7'].map(async path => {
            const headers = await header(wire);
            const { status } = await ask(served, wire, { path, headers });
            const { body: n } = await ask(second ?? served, wire, { path: '/read', headers });
            await sleep((IDLE_S + 1.5) * 1_000);
            const { body: later } = await ask(second ?? served, wire, { path: '/read', headers });
            return [status, n, later];
          }),
        ),
      );
      expect(outcomes).toEqual(Array.from(outcomes, () => [200, '1', 'undefined']));
    } finally {
      await served[Symbol.asyncDispose]();
      await second?.[Symbol.asyncDispose]();
      await close();
    }
  });
});
