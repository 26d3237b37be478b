import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { get } from 'node:http';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { defineEndpoint } from 'holdfast';
import { MemoryStore } from 'holdfast/session';
import { FakeClock } from 'holdfast/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { adminApiText } from '../../scripts/admin-api.ts';
import { AdminServer, type Question } from './admin-server.ts';

const file = readFileSync(new URL('../../docs/reference/admin-api.json', import.meta.url), 'utf8');

interface Operation {
  readonly operationId: string;
  readonly responses: Record<string, { $ref?: string; content?: Record<string, { schema: object }> }>;
}

let server: AdminServer;
let socket: WebSocket;
let sid: string;
// biome-ignore lint/suspicious/noExplicitAny: it is what is looked at
let document: any;
const operations = new Map<string, Operation>();

beforeAll(async () => {
  server = await AdminServer.start(
    {
      upstreams: { app: { servers: ['http://127.0.0.1:9', 'http://127.0.0.1:8'] } },
      policy: { limits: { requestsPerAddress: '1000/s' } },
      routes: [
        { endpoint: defineEndpoint({ path: '/news', onOpen: connection => connection.subscribe('news') }) },
        {
          path: '/login',
          session: 'create',
          async fetch(request) {
            const session = await server.server.sessions.signIn(request, { name: 'ann', roles: ['editor'] });
            session.set('basket', 'a value that nobody may see');
            return new Response(session.id);
          },
        },
        { path: '/*', upstream: 'app' },
      ],
    },
    {
      operations: {
        configFile: '/etc/holdfast.yaml',
        reload: async () => ({ ok: false, errors: ['holdfast.yaml:1: broken'] }),
        drain: () => {},
      },
    },
  );
  const [url = ''] = server.server.urls;
  const response = await fetch(`${url}/login`);
  sid = await response.text();
  const cookie = response.headers.get('Set-Cookie')!.split(';')[0]!;
  socket = new WebSocket(`${url.replace('http', 'ws')}/news`, { headers: { Origin: url, Cookie: cookie } });
  await once(socket, 'open');
  document = (await server.ask('/openapi.json')).json;
  for (const path of Object.values<Record<string, Operation>>(document.paths))
    for (const operation of Object.values(path)) operations.set(operation.operationId, operation);
});
afterAll(async () => {
  socket.terminate();
  await server.close();
});

test('the document is valid OpenAPI 3.1, and the one that is shipped', async () => {
  const validator = new Validator();
  const { valid, errors } = await validator.validate(structuredClone(document));
  expect([valid, errors]).toEqual([true, undefined]);
  expect(validator.version).toBe('3.1');
  expect(adminApiText()).toBe(file);
  expect(JSON.parse(file)).toEqual(document);
});

function post(body: object = {}): Question {
  return { method: 'POST', body };
}

/** What each operation is asked here: what changes least first. */
const asked: readonly (readonly [id: string, path: () => string, question: Question, status: number])[] = [
  ['health', () => '/healthz', {}, 200],
  ['readiness', () => '/readyz', {}, 200],
  ['metrics', () => '/metrics', {}, 200],
  ['status', () => '/v1/status', {}, 200],
  ['sessions', () => '/v1/sessions', {}, 200],
  ['sessions', () => '/v1/sessions?user=ann&limit=1', {}, 200],
  ['sessions', () => '/v1/sessions?prefix=abcd&context=/', {}, 200],
  ['sessions', () => '/v1/sessions?context=/nothing', {}, 404],
  ['session', () => `/v1/sessions/${sid}`, {}, 200],
  ['session', () => `/v1/sessions/${sid.slice(0, 6)}`, {}, 200],
  ['session', () => '/v1/sessions/zzzzzzzz', {}, 404],
  ['session', () => '/v1/sessions/a', {}, 400],
  ['connections', () => '/v1/connections', {}, 200],
  ['connections', () => `/v1/connections?user=ann&address=127.0.0.0/8&session=${sid.slice(0, 4)}`, {}, 200],
  ['connections', () => '/v1/connections?address=nowhere', {}, 400],
  ['upstreams', () => '/v1/upstreams', {}, 200],
  ['drainServer', () => '/v1/upstreams/app/drain', post({ server: 'http://127.0.0.1:9', sockets: 'stay' }), 200],
  ['drainServer', () => '/v1/upstreams/app/drain', post({ server: 'http://127.0.0.1:9', over: 'soon' }), 400],
  ['drainServer', () => '/v1/upstreams/apq/drain', post({ server: 'http://127.0.0.1:9' }), 404],
  ['resumeServer', () => '/v1/upstreams/app/resume', post({ server: 'http://127.0.0.1:9' }), 200],
  ['addServer', () => '/v1/upstreams/app/add', post({ server: 'http://127.0.0.1:7', weight: 2 }), 200],
  ['addServer', () => '/v1/upstreams/app/add', post({ server: 'ftp://127.0.0.1' }), 400],
  ['removeServer', () => '/v1/upstreams/app/remove', post({ server: 'http://127.0.0.1:7' }), 200],
  ['addBan', () => '/v1/bans', post({ address: '192.0.2.7', for: '10m', reason: 'asked to' }), 200],
  ['addBan', () => '/v1/bans', post({ address: 'nobody' }), 400],
  ['bans', () => '/v1/bans?limit=1', {}, 200],
  ['removeBan', () => '/v1/bans/192.0.2.7', { method: 'DELETE' }, 200],
  ['topics', () => '/v1/topics', {}, 200],
  ['limits', () => '/v1/limits', {}, 200],
  ['configuration', () => '/v1/config', {}, 200],
  ['logLevels', () => '/v1/log/level', {}, 200],
  ['setLogLevel', () => '/v1/log/level', post({ level: 'debug', part: 'session' }), 200],
  ['setLogLevel', () => '/v1/log/level', post({ level: 'debug', part: 'sesion' }), 400],
  ['setLogLevel', () => '/v1/log/level', post({ level: 'loud' }), 400],
  ['reopenLogs', () => '/v1/log/reopen', post(), 200],
  ['reload', () => '/v1/reload', post(), 422],
  ['drain', () => '/v1/drain', post({ over: '1s' }), 200],
  ['drain', () => '/v1/drain', post({ over: 'soon' }), 400],
  ['closeConnections', () => '/v1/connections/close', post({ route: 'nothing' }), 200],
  ['endSessionsOfUser', () => '/v1/users/nobody/sessions', { method: 'DELETE' }, 200],
  ['endSession', () => `/v1/sessions/${sid}`, { method: 'DELETE' }, 200],
];
/** Streams. */
const ELSEWHERE = ['followLogs', 'trace'];

test('every operation is asked here, or elsewhere', () => {
  const ids = new Set([...asked.map(([id]) => id), ...ELSEWHERE]);
  expect([...operations.keys()].filter(id => !ids.has(id))).toEqual([]);
  expect([...ids].filter(id => !operations.has(id))).toEqual([]);
});

test.each(asked)('%s answers what the document says', async (id, path, question, status) => {
  const answer = await server.ask(path(), question);
  expect([answer.status, answer.text]).toEqual([status, expect.anything()]);
  const described = operations.get(id)!.responses[status]!;
  const name = described.$ref?.split('/').at(-1);
  const { content } = name === undefined ? described : document.components.responses[name];
  const type = answer.headers['content-type']!.split(';')[0]!;
  const { schema } = content[type];
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  ajv.addSchema(document.components.schemas.Failure, '#/components/schemas/Failure');
  const validate = ajv.compile(schema);
  expect([validate(answer.json ?? answer.text), validate.errors]).toEqual([true, null]);
  // No whole sid and no value, whatever is asked for.
  expect(answer.text).not.toContain(sid);
  expect(answer.text).not.toContain('nobody may see');
});

test('a list of sessions says that more fit only if more do', async () => {
  const [url = ''] = server.server.urls;
  const others = await Promise.all(Array.from({ length: 4 }, async () => (await fetch(`${url}/login`)).text()));
  for (const one of others) {
    const { json } = await server.ask(`/v1/sessions?limit=1&prefix=${one.slice(0, 8)}`);
    expect(json).toMatchObject({ sessions: [{ sid: one.slice(0, 8) }], isPartial: false });
  }
  expect((await server.ask('/v1/sessions?limit=1')).json).toMatchObject({
    isPartial: true,
    stoppedBy: 'limit',
  });
});

test('a search for sessions that takes too long is given up, and says so', async () => {
  const clock = new FakeClock();
  class SlowStore extends MemoryStore {
    override async *sids(): AsyncIterable<string> {
      for await (const one of super.sids()) {
        yield one;
        await clock.advance(15_000);
      }
    }
  }
  const slow = await AdminServer.start(
    {
      session: { store: new SlowStore() },
      routes: [{ path: '/new', session: 'create', fetch: () => new Response() }],
    },
    { clock },
  );
  try {
    for (let i = 0; i < 4; i++) await fetch(`${slow.server.urls[0]}/new`);
    const { json } = await slow.ask('/v1/sessions');
    expect(json).toMatchObject({ isPartial: true, stoppedBy: 'time' });
    expect(json.sessions.length).toBeLessThan(4);
  } finally {
    await slow.close();
  }
});

test('lines of the log are followed as they are written, from a level on', async () => {
  const { port } = new URL(server.server.adminUrl!);
  const headers = { Authorization: `Bearer ${server.token}` };
  const asked = get({ port, path: '/v1/logs?level=debug&part=policy', headers, agent: false }).on('error', () => {});
  const [response] = await once(asked, 'response');
  const line = once(response, 'data');
  await server.ask('/v1/bans', post({ address: '192.0.2.9' }));
  expect(JSON.parse(String((await line)[0]))).toMatchObject({ kind: expect.anything(), event: 'banned' });
  asked.destroy();
});
