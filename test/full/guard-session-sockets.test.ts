import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';
import { endOf, startTalkingBackend, TALKER, visit } from '../guard/session-sockets.ts';
import { SHARED_PLACES, skipNote } from '../session/race-stores.ts';

const IDLE_MS = 3_000;
const LATE_MS = 3_000;
const farHour = (new Date().getHours() + 12) % 24;

describe.each(SHARED_PLACES.map(place => ({ ...place, title: `${place.name}${skipNote(place)}` })))(
  'two processes on $title',
  ({ missing, open }) => {
    test.skipIf(missing)(
      'a socket lives as long as its session is used in either process, and ends on time in the one that holds it',
      async () => {
        await using stack = new AsyncDisposableStack();
        const place = await open();
        stack.defer(() => place.close());
        const backend = stack.use(await startTalkingBackend());
        const serve = () =>
          Served.module(
            `${TALKER}
            export default defineConfig({ listen,
              session: { store: '${place.address}', keyFiles: ['key'], idleTimeout: ${IDLE_MS}, sweep: { atHours: [${farHour}] } },
              routes: [
                { path: '/in', session: 'create', fetch: signIn },
                { path: '/use', session: 'existing', fetch: (_, { session }) => new Response(session ? 'used' : 'signed out') },
                { path: '/relay', upstream: 'managed', session: 'existing' },
                { endpoint: talker('/endpoint') },
                { path: '/own/*', upstream: 'own' },
              ],
              upstreams: {
                managed: { servers: ['${backend.url}'] },
                own: { servers: ['${backend.url}'], session: { mode: 'observed', cookie: 'OWN', idleTimeout: ${IDLE_MS} } },
              } });`,
            { files: { key: 'k'.repeat(43) } },
          );
        const [here, there] = (await Promise.all([serve(), serve()])).map(server => stack.use(server)) as [
          Served,
          Served,
        ];

        const silent = ['/endpoint', '/relay', '/own/socket'].map(path =>
          endOf(here, { wire: 'http/1', start: path.startsWith('/own') ? '/own/' : '/in', path }),
        );
        // Used elsewhere, each time at another distance from the limit, and at last a moment before it.
        const used = ['/endpoint', '/relay', '/own/socket'].map(path =>
          endOf(
            here,
            { wire: 'http/1', start: path.startsWith('/own') ? '/own/' : '/in', path },
            async (socket, cookie) => {
              for (const pauseMs of [1_500, 2_400]) {
                await wait(pauseMs);
                const { body } = await visit(there, path.startsWith('/own') ? '/own/public' : '/use', cookie);
                if (!path.startsWith('/own')) expect(body).toBe('used');
              }
              expect(socket.messages.length).toBeGreaterThan(25);
            },
          ),
        );
        for (const end of await Promise.all(silent)) {
          expect(end).toMatchObject({ code: 1008, reason: 'session ended' });
          expect(end.sinceBegin).toBeGreaterThan(IDLE_MS - 50);
          expect(end.sinceUse).toBeLessThan(IDLE_MS + LATE_MS);
        }
        for (const end of await Promise.all(used)) {
          expect(end).toMatchObject({ code: 1008, reason: 'session ended' });
          expect(end.sinceUse).toBeGreaterThan(IDLE_MS - 100);
          expect(end.sinceUse).toBeLessThan(IDLE_MS + LATE_MS);
        }
        // Each session has ended once, for the right reason.
        const ends = [here, there].flatMap(server => server.logged().filter(({ event }) => event === 'session-end'));
        expect(ends.map(({ reason }) => reason)).toEqual(Array(4).fill('expired'));
      },
    );
  },
);
