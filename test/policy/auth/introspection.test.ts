import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLogger } from '../../../src/base/logger.ts';
import { type IntrospectionOptions, IntrospectionScheme } from '../../../src/policy/auth/introspection.ts';
import { RoleSource, type RolesOptions } from '../../../src/policy/auth/roles.ts';
import type { Principal, Verdict } from '../../../src/policy/auth/scheme.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { headWith } from '../head.ts';
import { IssuerServer } from './issuer.ts';

let folder: string;
let issuer: IssuerServer;
let clock: FakeClock;
let scheme: IntrospectionScheme;
let events: string[];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'introspection-'));
  writeFileSync(join(folder, 'secret'), 's3cret: with %\n');
  issuer = new IssuerServer();
  await issuer.open();
  clock = new FakeClock();
  events = [];
});
afterEach(async () => {
  scheme.close();
  await issuer.close();
  rmSync(folder, { recursive: true });
});

async function start(options: Partial<IntrospectionOptions> = {}, roles: RolesOptions = {}): Promise<void> {
  const note = ({ event }: { event?: string }) => void (event && events.push(event));
  const of = { clock, logger: { ...silentLogger, info: note, error: note } };
  const roleSource = new RoleSource(roles, { ...of, scheme: 'api' });
  const needed = { endpoint: issuer.url, clientId: 'gate way', clientSecretFile: join(folder, 'secret') };
  scheme = new IntrospectionScheme({ ...needed, ...options }, { ...of, name: 'api', roleSource });
  await scheme.start();
}

const judge = (token: string, clientAddress = '203.0.113.1'): Promise<Verdict> =>
  scheme.authenticate(headWith({ clientAddress, headers: { authorization: `Bearer ${token}` } }));
async function ask(token: string, clientAddress?: string): Promise<string> {
  const verdict = await judge(token, clientAddress);
  if (verdict.kind === 'authenticated') return verdict.principal.name;
  if (verdict.kind === 'rejected') return verdict.reason;
  return verdict.kind === 'refused' ? `${verdict.refusal.status} ${verdict.refusal.code}` : verdict.kind;
}
const principalOf = async (token: string): Promise<Principal> =>
  ((await judge(token)) as Extract<Verdict, { kind: 'authenticated' }>).principal;
const active = (changes: object = {}) => ({ active: true, token_type: 'Bearer', sub: 'alice', ...changes });
const seconds = () => Math.floor(clock.now() / 1_000);

test('the issuer is asked as RFC 7662 says, and says who it is', async () => {
  const exp = seconds() + 600;
  const claims = active({ exp, scope: 'read write', jti: 'j1' });
  issuer.serves(claims);
  await start({}, { rolesClaim: 'scope' });
  expect(await judge('opaque+token/==')).toEqual({
    kind: 'authenticated',
    principal: {
      ...{ name: 'alice', roles: ['read', 'write'], scheme: 'api', credential: 'j1', claims },
      expiresAt: exp * 1_000,
    },
  });
  const { headers, body } = issuer.requests[0]!;
  expect(Object.fromEntries(new URLSearchParams(body))).toEqual({
    token: 'opaque+token/==',
    token_type_hint: 'access_token',
  });
  expect(Buffer.from(headers.authorization!.slice('Basic '.length), 'base64').toString()).toBe(
    'gate+way:s3cret%3A+with+%25',
  );
});

test.each<[string, object, RegExp]>([
  ['an inactive token', { active: false }, /not active/],
  ['a refresh token', active({ token_type: 'refresh_token' }), /token_type/],
  ['a token of no kind', active({ token_type: undefined }), /allowUntyped/],
  ['a refresh token by token_use', active({ token_use: 'refresh_token' }), /token_use/],
  ['a token that has ended', active({ exp: 1 }), /has expired/],
  ['a token without a user', active({ sub: undefined }), /no claim "sub"/],
  ['a token for somebody else', active({ aud: ['x'] }), /somebody else/],
  ['a token of another issuer', active({ aud: 'api', iss: 'https://other.example' }), /another issuer/],
  ['a token that is bound as by DPoP', active({ aud: 'api', cnf: { jkt: 'x' } }), /bound to a key/],
])('%s is refused', async (_, answer, problem) => {
  issuer.serves(answer);
  const audience = 'aud' in answer ? { audience: ['api'], issuer: 'https://issuer.example' } : {};
  await start(audience);
  expect(await ask('t')).toMatch(problem);
});

test('a token of no kind is taken where that is allowed', async () => {
  issuer.serves(active({ token_type: undefined }));
  await start({ allowUntyped: true });
  expect(await ask('t')).toBe('alice');
});

test('400 unsupported_token_type is an inactive token', async () => {
  issuer.answer = (_, response) => response.writeHead(400).end('{"error":"unsupported_token_type"}');
  await start();
  expect(await ask('a.b.c')).toMatch(/not active/);
});

test.each<[string, (server: IssuerServer) => void]>([
  ['answers 500', server => (server.answer = (_, response) => response.writeHead(500).end('{"active":false}'))],
  ['does not know us', server => (server.answer = (_, response) => response.writeHead(401).end('{}'))],
  [
    'answers with another 400',
    server => (server.answer = (_, response) => response.writeHead(400).end('{"error":"x"}')),
  ],
  ['redirects', server => (server.answer = (_, response) => response.writeHead(302, { Location: '/' }).end())],
  ['answers with a page', server => (server.answer = (_, response) => response.end('<html>'))],
  ['does not say "active"', server => server.serves({})],
  ['says "active" as a text', server => server.serves(active({ active: 'true' }))],
  ['says "active" as a number', server => server.serves(active({ active: 1 }))],
  ['answers with a list', server => server.serves([active()])],
  ['says when the token ends as a text', server => server.serves(active({ exp: '1900000000' }))],
  ['says when the token ends as a list', server => server.serves(active({ exp: [1900000000] }))],
  ['never ends its answer', server => (server.answer = (_, response) => response.write(' '))],
  ['cuts the connection', server => (server.answer = (_, response) => response.destroy())],
  ['answers with too much', server => (server.answer = (_, response) => response.end(' '.repeat(2 ** 20 + 1)))],
  ['is silent', server => (server.answer = () => {})],
])('an issuer that %s is 503, never 401', async (_, breaks) => {
  breaks(issuer);
  await start();
  const answer = ask('t');
  let isThere = false;
  const end = () => {
    isThere = true;
  };
  answer.then(end, end);
  while (!isThere) {
    await clock.advance(500);
    await wait(1);
  }
  expect(await answer).toBe('503 ERR_AUTH_UNAVAILABLE');
  expect(events).toEqual(['introspection-unavailable']);
  issuer.serves(active());
  expect(await ask('t')).toBe('alice');
  expect(events).toEqual(['introspection-unavailable', 'introspection-available']);
});

test('an answer counts for 30 s, good or bad, and one question serves all who ask meanwhile', async () => {
  issuer.serves(active());
  await start();
  expect(await Promise.all(Array.from({ length: 64 }, () => ask('t')))).toEqual(Array(64).fill('alice'));
  issuer.serves({ active: false });
  await clock.advance(29_999);
  expect(await ask('t')).toBe('alice');
  expect(issuer.requests.length).toBe(1);
  await clock.advance(1);
  expect(await ask('t')).toMatch(/not active/);
  issuer.serves(active());
  await clock.advance(29_999);
  expect(await ask('t')).toMatch(/not active/);
  await clock.advance(1);
  expect(await ask('t')).toBe('alice');
});

test('an answer never counts beyond the end of its token', async () => {
  issuer.serves(active({ exp: seconds() + 10 }));
  await start();
  expect(await ask('t')).toBe('alice');
  await clock.advance(10_000);
  expect(await ask('t')).toMatch(/has expired/);
});

test('with cacheFor: 0 each request asks', async () => {
  issuer.serves(active());
  await start({ cacheFor: 0 });
  for (let i = 0; i < 3; i++) expect(await ask('t')).toBe('alice');
  expect(issuer.requests.length).toBe(3);
});

test('the review of a user asks again, once for many sockets', async () => {
  issuer.serves(active());
  await start();
  const principals = await Promise.all(Array.from({ length: 20 }, () => principalOf('t')));
  expect(scheme.reviewEveryMs).toBe(30_000);
  await clock.advance(30_000);
  const reviewed = await Promise.all(principals.map(principal => scheme.review(principal)));
  expect(reviewed.map(one => one?.name)).toEqual(Array(20).fill('alice'));
  expect(issuer.requests.length).toBe(2);
  issuer.serves({ active: false });
  await clock.advance(30_000);
  expect(await Promise.all(reviewed.map(principal => scheme.review(principal!)))).toEqual(Array(20).fill(undefined));
  // And nobody comes in by what was good before.
  expect(await ask('t')).toMatch(/not active/);
});

test('the review of a user whose issuer cannot be asked is an error, and changes nothing', async () => {
  issuer.serves(active());
  await start();
  const principal = await principalOf('t');
  issuer.answer = (_, response) => response.writeHead(500).end();
  await clock.advance(30_000);
  await expect(scheme.review(principal)).rejects.toThrow(/answered 500/);
});

test('at most 256 questions are open at a time: more are 503, and known tokens go on', async () => {
  issuer.serves(active());
  await start();
  expect(await ask('known')).toBe('alice');
  const held: (() => void)[] = [];
  issuer.answer = (_, response) => held.push(() => response.end(JSON.stringify({ active: false })));
  const answers = Array.from({ length: 257 }, (_, i) => ask(`made-up-${i}`, `192.0.2.${i % 8}`));
  expect(await answers[256]).toBe('503 ERR_AUTH_UNAVAILABLE');
  expect(await ask('known')).toBe('alice');
  while (held.length < 16) await wait(5);
  issuer.serves({ active: false });
  for (const end of held) end();
  expect(new Set(await Promise.all(answers.slice(0, 256)))).toEqual(
    new Set(['bearer token: the issuer says that it is not active']),
  );
});

test('clients of one network have 64 of the questions, and nobody else waits behind them', async () => {
  issuer.serves(active());
  await start();
  const principal = await principalOf('known');
  issuer.answer = () => {};
  const silent = Array.from({ length: 65 }, (_, i) => ask(`made-up-${i}`, `2001:db8::${i.toString(16)}`));
  expect(await silent[64]).toBe('503 ERR_AUTH_UNAVAILABLE');
  await clock.advance(5_000);
  expect(new Set(await Promise.all(silent))).toEqual(new Set(['503 ERR_AUTH_UNAVAILABLE']));
  issuer.serves(active());
  expect(await ask('other', '2001:db8::1')).toBe('alice');
  expect(await scheme.review(principal)).toMatchObject({ name: 'alice' });
});

test('a token that has ended, or was good and is not any more, is no failed login; one that is made up is', async () => {
  const isOver = async (token: string) => ((await judge(token)) as { isOver?: boolean }).isOver;
  issuer.serves(active({ exp: seconds() + 10 }));
  await start();
  expect(await isOver('a')).toBeUndefined();
  await clock.advance(10_000);
  expect(await isOver('a')).toBe(true);
  issuer.serves({ active: false });
  for (let i = 0; i < 3; i++) {
    await clock.advance(30_000);
    expect(await isOver('a')).toBe(true);
    expect(await isOver('made-up')).toBe(false);
  }
  issuer.serves(active({ exp: -1 }));
  expect(await isOver('b')).toBe(true);
});

test.each([1e300, 8.64e12, Number.MAX_VALUE])(
  'an end in a far future, %d, is the last that a date can be',
  async exp => {
    issuer.serves(active({ exp }));
    await start();
    expect((await principalOf('t')).expiresAt).toBe(8.64e15);
  },
);

test('a token of more than 4,096 characters is refused without a question', async () => {
  await start();
  expect(await ask('x'.repeat(4_097))).toMatch(/more than 4096/);
  expect(issuer.requests).toEqual([]);
});

test('what is logged and answered has nothing of a token or secret', async () => {
  const lines: string[] = [];
  const note = (fields: object, message: string) => void lines.push(JSON.stringify(fields) + message);
  issuer.answer = (_, response) => response.writeHead(401).end('{}');
  const of = { clock, logger: { debug: note, info: note, warn: note, error: note } };
  const roleSource = new RoleSource({}, { ...of, scheme: 'api' });
  const needed = { endpoint: issuer.url, clientId: 'gateway', clientSecretFile: join(folder, 'secret') };
  scheme = new IntrospectionScheme(needed, { ...of, name: 'api', roleSource });
  await scheme.start();
  const verdict = await judge('very-secret-token');
  expect(lines.length).toBe(1);
  expect(JSON.stringify([lines, verdict])).not.toMatch(/very-secret|s3cret/);
});
