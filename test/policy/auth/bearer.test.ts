import { expect, test } from 'vitest';
import { isRefusal } from '../../../src/http/refusal.ts';
import type { RequestHead } from '../../../src/http/request-head.ts';
import { type BearerPlaces, findBearer } from '../../../src/policy/auth/tokens/bearer.ts';
import { headWith } from '../head.ts';

const found = (head: RequestHead, places: BearerPlaces = {}) => {
  const shown = findBearer(head, places, 'api');
  if (shown.kind !== 'refused') return shown.kind === 'token' ? shown.token : shown.kind;
  return `${shown.refusal.status} ${shown.refusal.code}`;
};
const offering = (...subprotocols: string[]) =>
  headWith({ upgrade: { key: 'dGhlIHNhbXBsZSBub25jZQ==', subprotocols, extensions: '' } });

test.each([
  ['Bearer abc.def-ghi_~+/==', 'abc.def-ghi_~+/=='],
  ['bearer abc', 'abc'],
  ['BEARER   abc ', 'abc'],
  ['Basic YTpi', 'none'],
  ['Bearerabc', 'none'],
])('of Authorization "%s" the token is %s', (authorization, token) => {
  expect(found(headWith({ headers: { authorization } }))).toBe(token);
});

test.each(['Bearer', 'Bearer ', 'Bearer a b', 'Bearer a,b', 'Bearer "abc"', 'Bearer a\tb'])(
  'Authorization "%s" is 400',
  authorization => {
    expect(found(headWith({ headers: { authorization } }))).toBe('400 ERR_HTTP_BAD_REQUEST');
  },
);

test('two Authorization headers are 400 when one of them is a token, in whatever order', () => {
  const rawHeaders = ['Authorization', 'Basic YTpi', 'authorization', 'Bearer abc'];
  expect(found(headWith({ rawHeaders, headers: { authorization: 'Basic YTpi' } }))).toBe('400 ERR_HTTP_BAD_REQUEST');
  const basic = ['Authorization', 'Basic YTpi', 'authorization', 'Basic YTpi'];
  expect(found(headWith({ rawHeaders: basic, headers: { authorization: 'Basic YTpi' } }))).toBe('none');
});

test('a token in the query is none', () => {
  expect(found(headWith({ query: 'access_token=abc', target: '/?access_token=abc' }))).toBe('none');
});

test('a token in a cookie counts where a cookie is named', () => {
  const head = headWith({ headers: { cookie: 'a=1; token=abc; b=2' } });
  expect(found(head)).toBe('none');
  expect(found(head, { cookie: 'token' })).toBe('abc');
  expect(found(headWith({ headers: { cookie: 'token=' } }), { cookie: 'token' })).toBe('none');
});

test('two different tokens in cookies of one name are 400', () => {
  const places = { cookie: 'token' };
  expect(found(headWith({ headers: { cookie: 'token=abc; token=abc' } }), places)).toBe('abc');
  expect(found(headWith({ headers: { cookie: 'token=abc; token=def' } }), places)).toBe('400 ERR_HTTP_BAD_REQUEST');
});

test('a subprotocol bearer.<token> beside a real one is a token', () => {
  expect(found(offering('bearer.abc.def', 'chat'))).toBe('abc.def');
  expect(found(offering('chat', 'bearer.abc'))).toBe('abc');
  expect(found(offering('holdfast.bearer', 'bearer.abc'))).toBe('abc');
  expect(found(offering('chat'))).toBe('none');
});

test('subprotocols are left alone where they are not looked at', () => {
  expect(found(offering('bearer.abc', 'chat'), { subprotocol: false })).toBe('none');
});

test('a subprotocol bearer.<token> alone is 400, and the answer says what to offer', () => {
  const shown = findBearer(offering('bearer.secret-token'), {}, 'api');
  expect(shown).toMatchObject({ kind: 'refused', refusal: { status: 400, code: 'ERR_WS_BAD_HANDSHAKE' } });
  const { refusal } = shown as Extract<typeof shown, { kind: 'refused' }>;
  expect(refusal.body).toMatch(/"holdfast\.bearer"/);
  expect(JSON.stringify(refusal)).not.toContain('secret-token');
});

test('tokens in two places are 400, also when they are the same', () => {
  const head = { ...offering('bearer.abc', 'chat'), headers: { authorization: 'Bearer abc', cookie: 'token=abc' } };
  expect(found(head)).toBe('400 ERR_HTTP_BAD_REQUEST');
  expect(found(head, { header: false })).toBe('abc');
  expect(found(head, { header: false, cookie: 'token' })).toBe('400 ERR_HTTP_BAD_REQUEST');
  expect(found(offering('bearer.abc', 'bearer.def', 'chat'))).toBe('400 ERR_HTTP_BAD_REQUEST');
});

test('a refusal with 400 has invalid_request in its challenge, and no token', () => {
  const head = headWith({ headers: { authorization: 'Bearer secret token' } });
  const shown = findBearer(head, {}, 'the "api"');
  const refusal = 'refusal' in shown ? shown.refusal : undefined;
  expect(isRefusal(refusal)).toBe(true);
  expect(refusal!.headers!['WWW-Authenticate']).toMatch(
    /^Bearer realm="the \\"api\\"", error="invalid_request", error_description="[^"\\]+"$/,
  );
  expect(JSON.stringify(refusal)).not.toContain('secret');
});
