import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SessionManager } from '../../src/session/manager.ts';
import type { SessionStore } from '../../src/session/store.ts';
import { closing } from '../services/closing.ts';
import { KEY } from './fixture.ts';
import { startRaceServer } from './race-server.ts';
import { type Backend, connect, PLACES, type Place, skipNote } from './race-stores.ts';

const REQUESTS = 10;

/** What the manager asks of the store, by name. */
class Calls {
  readonly #counts = new Map<string, number>();

  counting(store: SessionStore): SessionStore {
    return new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]) => {
          this.#counts.set(String(name), (this.#counts.get(String(name)) ?? 0) + 1);
          return Reflect.apply(member, target, args);
        };
      },
    });
  }

  /** Everything counted since it was asked last. */
  take(): Record<string, number> {
    const counts = Object.fromEntries(this.#counts);
    this.#counts.clear();
    return counts;
  }
}

/** Ten requests that only read cost express-session with connect-redis ten GET and ten EXPIRE. */
describe.each(PLACES.map(place => ({ ...place, title: `${place.name}${skipNote(place)}` })))(
  'on $title',
  ({ name, missing, open }) => {
    let place: Place;
    let shared: Backend | undefined;
    const running = closing();
    beforeAll(async () => {
      if (missing) return;
      place = await open();
      // Nobody else can connect to it: the one store is what all servers have in common.
      if (name === 'memory') shared = await connect(place.address);
    });
    afterAll(() => place?.close());

    async function start(coherence: 'strict' | 'relaxed') {
      const calls = new Calls();
      const { store, ledger } = shared ?? (await connect(place.address));
      const manager = new SessionManager({ store: calls.counting(store), ledger, keys: [KEY], coherence });
      await manager.start();
      const server = await startRaceServer(manager);
      running.push(server);
      calls.take(); // of the start
      return { url: server.url, calls };
    }

    /** A session with something in it, made by another server. */
    async function createSession(): Promise<string> {
      const { url } = await start('strict');
      const answer = await fetch(`${url}/post?value=kept`, { redirect: 'manual' });
      return answer.headers.getSetCookie()[0]!.split(';')[0]!;
    }

    async function readOnce(url: string, cookie: string): Promise<void> {
      const answer = await fetch(url, { headers: { cookie } });
      expect(await answer.json()).toMatchObject({ data: { written: 'kept' } });
    }

    test.skipIf(missing)(
      'the first request reads a session once, and writes only that it has come from another process',
      async () => {
        const cookie = await createSession();
        for (const coherence of ['strict', 'relaxed'] as const) {
          const { url, calls } = await start(coherence);
          await readOnce(url, cookie);
          expect(calls.take(), coherence).toEqual({ read: 1, touch: 1 });
        }
      },
    );

    test.skipIf(missing)(
      `in strict coherence ${REQUESTS} more ask ${REQUESTS} times whether it is still right, and neither read nor write`,
      async () => {
        const cookie = await createSession();
        const { url, calls } = await start('strict');
        await readOnce(url, cookie);
        calls.take();
        for (let request = 0; request < REQUESTS; request++) await readOnce(url, cookie);
        expect(calls.take()).toEqual({ glance: REQUESTS });
      },
    );

    test.skipIf(missing)(`in relaxed coherence ${REQUESTS} more ask the store nothing`, async () => {
      const cookie = await createSession();
      const { url, calls } = await start('relaxed');
      await readOnce(url, cookie);
      calls.take();
      for (let request = 0; request < REQUESTS; request++) await readOnce(url, cookie);
      expect(calls.take()).toEqual({});
    });

    test.skipIf(missing)('a request that writes costs one write, and none when nobody has a session', async () => {
      const cookie = await createSession();
      const { url, calls } = await start('strict');
      await readOnce(url, cookie);
      calls.take();
      await fetch(`${url}/post?value=other`, { headers: { cookie }, redirect: 'manual' });
      expect(calls.take()).toEqual({ glance: 1, commit: 1 });
      await fetch(url);
      expect(calls.take()).toEqual({});
    });
  },
);
