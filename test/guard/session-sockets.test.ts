import { afterAll, beforeAll, expect, test } from 'vitest';
import { Served, wires } from './served.ts';
import { endOf, type SocketEnd, startTalkingBackend, TALKER } from './session-sockets.ts';

/** Long enough for all sockets to be opened at once on a busy machine. */
const LIMIT_MS = 3_000;
/** A machine that is busy may be late, but not as late as a sweep. */
const LATE_MS = 3_000;
const PAUSE_MS = 500;
/** An hour of the day in which no sweep can come while the tests run. */
const farHour = (new Date().getHours() + 12) % 24;

/** Applications with sessions of their own. */
const SESSIONS = {
  idle: `{ idleTimeout: ${LIMIT_MS}, sweep: { atHours: [${farHour}] } }`,
  'very-high': `{ idleTimeout: ${LIMIT_MS}, profile: 'very-high', write: { every: '1s' }, sweep: { atHours: [${farHour}] } }`,
  manual: `{ idleTimeout: ${LIMIT_MS}, write: 'manual' }`,
  absolute: `{ absoluteTimeout: ${LIMIT_MS}, sweep: { atHours: [${farHour}] } }`,
};
type Application = keyof typeof SESSIONS;

const silent = (Object.keys(SESSIONS) as Application[]).flatMap(application =>
  (['endpoint', 'relay'] as const).flatMap(target => wires.map(wire => ({ application, target, wire }))),
);
const chatting = ['/idle/endpoint', '/idle/relay', '/very-high/endpoint', '/own/socket', '/absolute/endpoint'] as const;

let server: Served;
const stack = new AsyncDisposableStack();
/** All at once: each of them takes as long as its limit. */
const ends = new Map<unknown, Promise<SocketEnd>>();

beforeAll(async () => {
  const backend = stack.use(await startTalkingBackend());
  const mounts = Object.entries(SESSIONS).map(
    ([name, session]) => `{ mount: '/${name}', application: { session: ${session}, routes: [
      { path: '/in', session: 'create', fetch: signIn },
      { path: '/relay', upstream: 'managed', session: 'existing' },
      { endpoint: talker('/endpoint') },
    ] } },`,
  );
  server = stack.use(
    await Served.module(`${TALKER}
      export default defineConfig({ listen, routes: [
        ${mounts.join('\n')}
        { path: '/own/*', upstream: 'own' },
      ], upstreams: {
        managed: { servers: ['${backend.url}'] },
        own: { servers: ['${backend.url}'], session: { mode: 'observed', cookie: 'OWN', idleTimeout: ${LIMIT_MS} } },
      } });`),
  );
  for (const one of silent) {
    const { application, target, wire } = one;
    ends.set(one, endOf(server, { wire, start: `/${application}/in`, path: `/${application}/${target}` }));
  }
  for (const wire of wires) ends.set(wire, endOf(server, { wire, start: '/own/', path: '/own/socket' }));
  for (const path of chatting) {
    const start = path.startsWith('/own') ? '/own/' : path.replace(/[^/]+$/, 'in');
    const end = endOf(server, { wire: 'http/1', start, path }, async socket => {
      for (let i = 0; i < 7; i++) {
        await new Promise(resolve => setTimeout(resolve, PAUSE_MS));
        socket.send('still here');
      }
    });
    ends.set(path, end);
  }
  await Promise.allSettled(ends.values());
});
afterAll(() => stack.disposeAsync());

const reasonOf = (sid: string) =>
  server.logged().find(({ event, sid: prefix }) => event === 'session-end' && sid.startsWith(String(prefix)))?.reason;

test.for(silent)(
  'a silent socket closes with 1008 at the limit of its session, whenever the next sweep is: $target over $wire, $application',
  async one => {
    const { sid, ...end } = await ends.get(one)!;
    expect(end).toMatchObject({ code: 1008, reason: 'session ended' });
    expect(end.sinceBegin).toBeGreaterThan(LIMIT_MS - 50);
    expect(end.sinceUse).toBeLessThan(LIMIT_MS + LATE_MS);
    expect(end.messages).toBeGreaterThan(0);
    await expect.poll(() => reasonOf(sid)).toBe(one.application === 'absolute' ? 'absolute' : 'expired');
  },
);

test.for(wires)('a relay of a session that the backend keeps closes with 1008 at the limit, over %s', async wire => {
  const end = await ends.get(wire)!;
  expect(end).toMatchObject({ code: 1008, reason: 'session ended' });
  expect(end.sinceBegin).toBeGreaterThan(LIMIT_MS - 50);
  expect(end.sinceUse).toBeLessThan(LIMIT_MS + LATE_MS);
  expect(end.messages).toBeGreaterThan(0);
});

test.for(chatting.slice(0, -1))(
  '%s stays open while its client sends messages, and closes at the limit after the last',
  async path => {
    const { code, sinceUse } = await ends.get(path)!;
    expect(code).toBe(1008);
    expect(sinceUse).toBeGreaterThan(LIMIT_MS - 50);
    expect(sinceUse).toBeLessThan(LIMIT_MS + LATE_MS);
  },
);

test('messages of the client keep no session beyond its age', async () => {
  const { sid, code, sinceBegin } = await ends.get('/absolute/endpoint')!;
  expect(code).toBe(1008);
  expect(sinceBegin).toBeLessThan(LIMIT_MS + LATE_MS);
  expect(reasonOf(sid)).toBe('absolute');
});
