import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { silentLogger } from '../../../src/base/logger.ts';
import { JwtScheme } from '../../../src/policy/auth/jwt.ts';
import { RoleSource } from '../../../src/policy/auth/roles.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { until } from '../../services/until.ts';
import { headWith } from '../head.ts';
import { AUDIENCE, claimsAt, ISSUER, IssuerServer, jwks, sign, signingKey } from './issuer.ts';

const [FIRST, SECOND, THIRD] = ['1', '2', '3'].map(kid => signingKey('ES256', kid)) as never as [
  ReturnType<typeof signingKey>,
  ReturnType<typeof signingKey>,
  ReturnType<typeof signingKey>,
];

let issuer: IssuerServer;
let clock: FakeClock;
let scheme: JwtScheme;
let events: string[];
let sets: Record<'first' | 'both' | 'second', object>;
beforeAll(async () => {
  sets = { first: await jwks(FIRST), both: await jwks(FIRST, SECOND), second: await jwks(SECOND) };
});
beforeEach(async () => {
  issuer = new IssuerServer();
  await issuer.open();
  clock = new FakeClock();
  events = [];
});
afterEach(async () => {
  scheme.close();
  await issuer.close();
});

async function start(jwksUri = issuer.url, keepKeys?: string): Promise<void> {
  const note = ({ event }: { event?: string }) => void (event && events.push(event));
  const of = { clock, logger: { ...silentLogger, info: note, error: note } };
  const roleSource = new RoleSource({}, { ...of, scheme: 'api' });
  scheme = new JwtScheme({ issuer: ISSUER, audience: AUDIENCE, jwksUri, keepKeys }, { ...of, name: 'api', roleSource });
  await scheme.start();
}

let tokens = 0;
const token = (key = FIRST) => sign(key, claimsAt(clock.now(), { jti: String(tokens++) }));
async function ask(text: string): Promise<string> {
  const verdict = await scheme.authenticate(headWith({ headers: { authorization: `Bearer ${text}` } }));
  if (verdict.kind === 'authenticated') return verdict.principal.name;
  return verdict.kind === 'refused' ? `${verdict.refusal.status} ${verdict.refusal.code}` : verdict.kind;
}
/** Lets time pass until there is an answer. */
async function soon<T>(answer: Promise<T>): Promise<T> {
  let isThere = false;
  const end = () => {
    isThere = true;
  };
  answer.then(end, end);
  while (!isThere) {
    await clock.advance(250);
    await wait(1);
  }
  return answer;
}

test('the keys of an issuer are fetched once for many requests', async () => {
  issuer.serves(sets.first);
  await start();
  const texts = await Promise.all(Array.from({ length: 50 }, () => token()));
  expect(new Set(await Promise.all(texts.map(ask)))).toEqual(new Set(['alice']));
  expect(issuer.requests.length).toBe(1);
});

test('a rotation refuses no valid token, also right after a fetch', async () => {
  issuer.serves(sets.first);
  await start();
  expect(await ask(await token())).toBe('alice');
  issuer.serves(sets.both);
  const answers = [ask(await token(SECOND)), ask(await token()), ask(await token(SECOND))];
  expect(await soon(Promise.all(answers))).toEqual(['alice', 'alice', 'alice']);
  expect(issuer.requests.length).toBe(2);
  expect(events).toEqual(['keys-changed']);
});

test('a token of a new key that comes while old keys are on their way waits for the next fetch', async () => {
  issuer.serves(sets.first);
  await start();
  expect(await ask(await token())).toBe('alice');
  await clock.advance(300_000 - 1);
  let isHeld = false;
  issuer.answer = (_, response) => {
    isHeld = true;
    // What this answer says was true when it was asked for.
    setTimeout(() => response.end(JSON.stringify(sets.first)), 50);
    issuer.serves(sets.both);
  };
  await clock.advance(1);
  await until(() => isHeld);
  expect(await soon(ask(await token(SECOND)))).toBe('alice');
});

test('a flood of unknown keys costs the issuer at most one request a second, and valid tokens go on', async () => {
  issuer.serves(sets.first);
  await start();
  expect(await ask(await token())).toBe('alice');
  const unknown = await Promise.all(Array.from({ length: 40 }, (_, i) => token({ ...THIRD, kid: `x${i}` })));
  const before = clock.monotonic();
  for (let round = 0; round < 4; round++) {
    const answers = Promise.all(unknown.map(ask));
    expect(await ask(await token())).toBe('alice');
    expect(new Set(await soon(answers))).toEqual(new Set(['rejected']));
  }
  const seconds = (clock.monotonic() - before) / 1_000;
  expect(issuer.requests.length).toBeLessThanOrEqual(2 + seconds);
  // In the middle of it, a rotation.
  const answers = Promise.all(unknown.map(ask));
  issuer.serves(sets.both);
  expect(await soon(ask(await token(SECOND)))).toBe('alice');
  await soon(answers);
});

test('what waits for unknown keys is bounded: 503, never 401', async () => {
  issuer.serves(sets.first);
  await start();
  expect(await ask(await token())).toBe('alice');
  const text = await token(SECOND);
  const answers = Promise.all(Array.from({ length: 1_001 }, () => ask(text)));
  issuer.serves(sets.both);
  const counts = new Map<string, number>();
  for (const answer of await soon(answers)) counts.set(answer, (counts.get(answer) ?? 0) + 1);
  expect(Object.fromEntries(counts)).toEqual({ alice: 1_000, '503 ERR_AUTH_UNAVAILABLE': 1 });
});

test('a token of another issuer, or one that has expired, sends nobody to the issuer', async () => {
  issuer.serves(sets.first);
  await start();
  expect(await ask(await token())).toBe('alice');
  expect(await ask(await sign(THIRD, claimsAt(clock.now(), { iss: 'https://other.example' })))).toBe('rejected');
  expect(await ask(await sign(THIRD, claimsAt(clock.now(), { exp: 1 })))).toBe('rejected');
  expect(issuer.requests.length).toBe(1);
});

test('keys are fetched anew every five minutes without being asked for, and one that is gone counts no more', async () => {
  issuer.serves(sets.both);
  await start();
  const text = await token();
  expect(await ask(text)).toBe('alice');
  issuer.serves(sets.second);
  await clock.advance(300_000);
  await until(() => events.includes('keys-changed'));
  expect(await soon(ask(text))).toBe('rejected');
  expect(await ask(await token(SECOND))).toBe('alice');
});

test.each<[string, (server: IssuerServer) => void]>([
  ['answers 500', server => (server.answer = (_, response) => response.writeHead(500).end())],
  ['redirects', server => (server.answer = (_, response) => response.writeHead(302, { Location: '/' }).end())],
  ['answers with a page', server => (server.answer = (_, response) => response.end('<html>'))],
  ['cuts the connection', server => (server.answer = (_, response) => response.destroy())],
  [
    'stops in the middle',
    server => (server.answer = (_, response) => response.write('{"keys":[', () => response.destroy())),
  ],
  ['answers with more than 1 MiB', server => (server.answer = (_, response) => response.end(' '.repeat(2 ** 20 + 1)))],
  ['answers with 101 keys', server => server.serves({ keys: Array(101).fill({ kty: 'EC' }) })],
  ['publishes a private key', server => server.serves({ keys: [{ kty: 'EC', d: 'AA' }] })],
  ['is silent', server => (server.answer = () => {})],
])('an issuer that %s: without keys 503, with keys they stay in use', async (_, breaks) => {
  breaks(issuer);
  await start();
  expect(await soon(ask(await token()))).toBe('503 ERR_AUTH_UNAVAILABLE');
  expect(events).toEqual(['keys-unavailable']);
  issuer.serves(sets.first);
  await clock.advance(1_000);
  expect(await soon(ask(await token()))).toBe('alice');
  await until(() => events.includes('keys-available'));
  breaks(issuer);
  await clock.advance(300_000);
  expect(await ask(await token())).toBe('alice');
  // Whether there is such a key cannot be known.
  expect(await soon(ask(await token(SECOND)))).toBe('503 ERR_AUTH_UNAVAILABLE');
});

test('keys that could not be fetched for as long as keepKeys says are used no more', async () => {
  issuer.serves(sets.first);
  await start(issuer.url, '10m');
  expect(await ask(await token())).toBe('alice');
  issuer.answer = (_, response) => response.destroy();
  await clock.advance(600_000);
  const known = await token();
  expect(await ask(known)).toBe('alice');
  await clock.advance(1_000);
  expect(await soon(ask(await token()))).toBe('503 ERR_AUTH_UNAVAILABLE');
  // Nor for what they have verified before.
  expect(await soon(ask(known))).toBe('503 ERR_AUTH_UNAVAILABLE');
});

test('an issuer that is not there is 503 at once, again and again, and the server starts without it', async () => {
  const { url } = issuer;
  await issuer.close();
  await start(url);
  for (let i = 0; i < 20; i++) expect(await ask(await token())).toBe('503 ERR_AUTH_UNAVAILABLE');
  expect(events).toEqual(['keys-unavailable']);
  issuer = new IssuerServer();
  await issuer.open();
});
