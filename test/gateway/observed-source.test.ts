import { expect, test } from 'vitest';
import { ObservedSource, type ObservedSourceOptions } from '../../src/gateway/backend-session/observed/source.ts';
import { ClientHeaders } from '../../src/http/client-headers.ts';
import type { RequestHead } from '../../src/http/request-head.ts';

const clientHeaders = new ClientHeaders({ removeHeaders: ['X-Gone'], passHeaders: ['X-Remote-User'] });

function source(options: ObservedSourceOptions, upstream = 'app'): ObservedSource {
  return new ObservedSource(upstream, options, {
    publicCookie: options.cookie,
    owned: ['X-Session-ID'],
    clientHeaders,
  });
}

function claim(options: ObservedSourceOptions, headers: Record<string, string>, upstream?: string) {
  return source(options, upstream).claimOf({ headers } as unknown as RequestHead);
}

function keyOf(options: ObservedSourceOptions, id: string, upstream?: string): string {
  const claimed = claim(options, { cookie: `${options.cookie}=${id}` }, upstream);
  return claimed && claimed !== 'ambiguous' ? claimed.key : 'none';
}

const COOKIE = { cookie: 'SID' };
const GONE = '; Path=/; Max-Age=0';

test('the key of a session stands for its id in one upstream, and says nothing of it', () => {
  expect(keyOf(COOKIE, 'abc')).toMatch(/^[\w-]{43}$/);
  expect(keyOf(COOKIE, 'abc')).toBe(keyOf(COOKIE, 'abc'));
  expect(keyOf(COOKIE, 'abc', 'other')).not.toBe(keyOf(COOKIE, 'abc'));
  expect(keyOf(COOKIE, 'abd')).not.toBe(keyOf(COOKIE, 'abc'));
});

test.each<[suffix: ObservedSourceOptions['suffix'], one: string, other: string, isSame: boolean]>([
  ['.', 'abc.t1', 'abc.t2', true],
  ['.', 'abc.t1', 'abc', true],
  ['!', 'abc!1!2!99', 'abc!2!1!99', true],
  [':', '0001abc:c1', '0001abc:c1:c2', true],
  [':', '0001abc:c1', '0002abc:c2:c1', true],
  [':', '0000abc:-1', '0000abc', true],
  [':', '0001abc:c1', '0001abd:c1', false],
  [':', 'abc:c1', 'abd:c1', false],
  ['+', '0001abc+c1', '0002abc+c1+c2', true],
  ['.', '0001abc.t1', '0002abc.t1', false],
  [undefined, '0001abc:c1', '0002abc:c1', false],
  ['.', 'abc.t1', 'abd.t1', false],
  ['.', 'abc!1', 'abc!2', false],
  [undefined, 'abc.t1', 'abc.t2', false],
])('with the suffix %s, %s and %s are the same session: %s', (suffix, one, other, isSame) => {
  const options = { ...COOKIE, ...(suffix && { suffix }) };
  expect(keyOf(options, one) === keyOf(options, other)).toBe(isSame);
});

test('two cookies of one name that name one session are not ambiguous, and those of two sessions are', () => {
  const webSphere = { ...COOKIE, suffix: ':' } as const;
  const cookie = 'SID=0001abc:c1; SID=0002abc:c1:c2';
  expect(claim(webSphere, { cookie })).toMatchObject({ value: '0001abc:c1', key: keyOf(webSphere, '0009abc') });
  expect(claim({ ...webSphere, duplicates: 'last' }, { cookie })).toMatchObject({ value: '0002abc:c1:c2' });
  expect(claim(webSphere, { cookie: 'SID=0001abc:c1; SID=0001abd:c1' })).toBe('ambiguous');
  expect(claim(webSphere, { cookie: 'SID=:c1; SID=:c2' })).toBe('ambiguous');
});

test.each(['dummy', '(null)', 'null', 'undefined', 'deleted', 'Dummy'])(
  'the value %s, which everybody has, is no session, whoever sends it',
  value => {
    expect(claim(COOKIE, { cookie: `SID=${value}` })).toBeUndefined();
    expect(claim(COOKIE, { cookie: `SID=${value}; SID=abc` })).toMatchObject({ value: 'abc' });
    expect(claim({ header: 'Session-ID' }, { 'session-id': value })).toBeUndefined();
    expect(source(COOKIE).wordIn(['Set-Cookie', `SID=${value}; Path=/`], 0)).toBe('over');
    expect(source(COOKIE).wordIn(['Set-Cookie', `SID=${value}1; Path=/`], 0)).toHaveProperty('key');
  },
);

test('an id of nothing but a route is none', () => {
  expect(claim({ ...COOKIE, suffix: '.' }, { cookie: 'SID=.t1' })).toBeUndefined();
});

test('what a request claims comes from the header before the cookies; when they differ, the policy decides', () => {
  const both = { cookie: 'SID', header: 'Session-ID' };
  const headers = { cookie: 'SID=b', 'session-id': 'a' };
  expect(claim(both, headers)).toBe('ambiguous');
  expect(claim(both, { cookie: 'SID=a', 'session-id': 'a' })).toMatchObject({ value: 'a', isPassedOn: true });
  expect(claim({ ...both, duplicates: 'first' }, headers)).toMatchObject({ value: 'a' });
  expect(claim({ ...both, duplicates: 'last' }, headers)).toMatchObject({ value: 'b' });
  // Also when only one of them could be an id.
  expect(claim(both, { cookie: 'SID=a b', 'session-id': 'a' })).toBe('ambiguous');
  expect(claim(both, { 'session-id': '' })).toBeUndefined();
});

test.each<[headers: Record<string, string>, isPassedOn: boolean]>([
  [{ cookie: 'SID=a' }, true],
  [{ cookie: 'SID=a', connection: 'keep-alive, Cookie' }, false],
  [{ 'session-id': 'a' }, true],
  [{ 'session-id': 'a', connection: 'Session-ID' }, false],
])('of %j the backend sees the id: %s', (headers, isPassedOn) => {
  expect(claim({ cookie: 'SID', header: 'Session-ID' }, headers)).toMatchObject({ isPassedOn });
});

test.each<[header: string, isPeerTrusted: boolean, isPassedOn: boolean]>([
  ['X-Gone', true, false],
  ['x_session.id', true, false],
  ['X-Remote-User', false, false],
  ['X-Remote-User', true, true],
  ['Remote-User', true, false],
])('of an id in %s, sent by a trusted proxy: %s, the backend sees it: %s', (header, isPeerTrusted, isPassedOn) => {
  const head = { headers: { [header.toLowerCase()]: 'a' }, isPeerTrusted } as unknown as RequestHead;
  expect(source({ header }).claimOf(head)).toMatchObject({ isPassedOn });
});

test.each<[setCookies: string[], word: 'over' | string | undefined]>([
  [[], undefined],
  [['other=1; Path=/', 'sid=low', 'XSID=x', '=SID=x'], undefined],
  [['SID=new; Path=/'], 'new'],
  [['SID="new"'], 'new'],
  [['SID=; Path=/'], 'over'],
  [[`SID=x${GONE}`], 'over'],
  [['SID=x; Expires=Thu, 01 Jan 1970 00:00:10 GMT'], 'over'],
  [['SID=x; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:10 GMT'], 'x'],
  [['SID=one', 'SID=two'], 'two'],
  [['SID=one', `SID=x; Max-Age=0`], 'over'],
  // Another path is another cookie: taken away there, and given here, whatever the order is.
  [['SID=new; Path=/', `SID=x; Path=/old; Max-Age=0`], 'new'],
  [['SID=x; Path=/old; Max-Age=0', 'SID=new; Path=/'], 'new'],
  [['SID=x; Domain=example.com; Path=/; Max-Age=0', 'SID=new; Path=/'], 'new'],
  // What cannot be an id has taken the place of the one before.
  [['SID=a\x7fb; Path=/'], 'over'],
  [[`SID=${'x'.repeat(5000)}`], 'over'],
])('an answer that sets %j says: %s', (setCookies, word) => {
  const rawHeaders = ['Content-Type', 'text/plain', ...setCookies.flatMap(value => ['set-cookie', value])];
  const said = source(COOKIE).wordIn(rawHeaders, Date.UTC(2026, 0, 1));
  expect(said).toEqual(word === undefined || word === 'over' ? word : { key: keyOf(COOKIE, word) });
});

test('an answer gives an id by the header, too, and ends it by an empty one', () => {
  const one = source({ header: 'X-Auth-Token' });
  expect(one.wordIn(['x-auth-token', 'abc'], 0)).toEqual({ key: keyOf(COOKIE, 'abc') });
  expect(one.wordIn(['X-Auth-Token', ''], 0)).toBe('over');
  expect(one.wordIn(['Set-Cookie', 'SID=abc'], 0)).toBeUndefined();
});
