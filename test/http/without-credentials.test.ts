import { expect, test } from 'vitest';
import { type CredentialPlace, withoutCredentials } from '../../src/http/without-credentials.ts';
import { headWith } from '../policy/head.ts';

const sent: [string, string][] = [
  ['Host', 'example.com'],
  ['authorization', 'Basic YTpi'],
  ['Cookie', 'a=1; token=x; b=2'],
  ['X-Key', 'one'],
  ['x-key', 'two'],
  ['Sec-WebSocket-Protocol', 'bearer.abc, chat'],
];
const head = headWith({
  headers: {
    host: 'example.com',
    authorization: 'Basic YTpi',
    cookie: 'a=1; token=x; b=2',
    'x-key': 'one, two',
    'sec-websocket-protocol': 'bearer.abc, chat',
  },
  rawHeaders: sent.flat(),
  upgrade: { key: 'k', subprotocols: ['bearer.abc', 'chat'], extensions: '' },
});

test.each<[string, CredentialPlace, string[], string]>([
  ['a header', { kind: 'header', name: 'Authorization' }, ['authorization'], 'authorization'],
  ['every line of a header', { kind: 'header', name: 'X-Key' }, ['X-Key', 'x-key'], 'x-key'],
])('%s is taken off, however it is written', (_, place, names, joined) => {
  const less = withoutCredentials(head, [place]);
  expect(less.rawHeaders).toEqual(sent.filter(([name]) => !names.includes(name)).flat());
  expect(less.headers).not.toHaveProperty(joined);
});

test('a cookie is taken off, and the others stay as they came', () => {
  const less = withoutCredentials(head, [{ kind: 'cookie', name: 'token' }]);
  expect(less.headers.cookie).toBe('a=1; b=2');
  expect(less.rawHeaders).toContain('a=1; b=2');
  const alone = headWith({ headers: { cookie: 'token=x' }, rawHeaders: ['Cookie', 'token=x'] });
  expect(withoutCredentials(alone, [{ kind: 'cookie', name: 'token' }])).toMatchObject({ headers: {}, rawHeaders: [] });
});

test('a subprotocol is taken off the header and the handshake', () => {
  const less = withoutCredentials(head, [{ kind: 'subprotocol', prefix: 'bearer.' }]);
  expect(less.headers['sec-websocket-protocol']).toBe('chat');
  expect(less.upgrade).toMatchObject({ subprotocols: ['chat'] });
});

test('a request with nothing to take off is the same object', () => {
  const places: CredentialPlace[] = [
    { kind: 'header', name: 'x-none' },
    { kind: 'cookie', name: 'none' },
    { kind: 'subprotocol', prefix: 'none.' },
  ];
  expect(withoutCredentials(head, places)).toBe(head);
  expect(withoutCredentials(headWith(), places).rawHeaders).toEqual([]);
});

test('the subprotocol that stands for none is taken away as well, and is the one to select when the target selects none', () => {
  const head = headWith({
    headers: { 'sec-websocket-protocol': 'mine, bearer.abc, chat' },
    upgrade: { key: 'k', subprotocols: ['mine', 'bearer.abc', 'chat'], extensions: '' },
  });
  const place = { kind: 'subprotocol', prefix: 'bearer.', standIn: 'mine' } as const;
  expect(withoutCredentials(head, [place]).upgrade).toEqual({
    ...{ key: 'k', subprotocols: ['chat'], extensions: '' },
    fallbackSubprotocol: 'mine',
  });
});
