import { describe, expect, test } from 'vitest';
import { parseUpgrade } from '../../src/http/upgrade-request.ts';
import { receiveGoodHead } from './receive-head.ts';

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const GOOD = {
  Host: 'example.com',
  Upgrade: 'websocket',
  Connection: 'Upgrade',
  'Sec-WebSocket-Key': KEY,
  'Sec-WebSocket-Version': '13',
};

/** Sends the good handshake with changes: undefined leaves a header out, a list sends it several times. */
async function judge(changes: Record<string, string | string[] | undefined>, requestLine = 'GET /chat HTTP/1.1') {
  const lines = Object.entries({ ...GOOD, ...changes }).flatMap(([name, value]) =>
    value === undefined ? [] : [value].flat().map(one => `${name}: ${one}`),
  );
  return parseUpgrade(await receiveGoodHead([requestLine, ...lines]));
}

describe('parseUpgrade', () => {
  test('reads a good handshake', async () => {
    expect(await judge({})).toEqual({ key: KEY, subprotocols: [], extensions: '' });
    expect(
      await judge({ 'Sec-WebSocket-Protocol': 'chat.v2, chat.v1', 'Sec-WebSocket-Extensions': 'a; b="c,d", e' }),
    ).toEqual({ key: KEY, subprotocols: ['chat.v2', 'chat.v1'], extensions: 'a; b="c,d", e' });
  });

  test.each<[string, Record<string, string | string[]>]>([
    ['Upgrade in another case', { Upgrade: 'WebSocket' }],
    ['Upgrade as a list', { Upgrade: 'h2c, websocket' }],
    ['Connection in another case', { Connection: 'UPGRADE' }],
    ['Connection as a list, as Firefox sends it', { Connection: 'keep-alive, Upgrade' }],
    ['headers on several lines', { Connection: ['keep-alive', 'Upgrade'] }],
    ['an Upgrade list that is not tidy', { Upgrade: ' ,\twebsocket ,' }],
    ['subprotocols on several lines', { 'Sec-WebSocket-Protocol': ['a', 'b'] }],
    ['subprotocols that differ in case only', { 'Sec-WebSocket-Protocol': 'a, A' }],
  ])('accepts %s', async (_what, changes) => {
    expect(await judge(changes)).toMatchObject({ key: KEY });
  });

  test.each([...'AQRZagw9+'])('takes a key whose last character is %s, with whatever stray bits', async last => {
    const key = `dGhlIHNhbXBsZSBub25jZ${last}==`;
    expect(await judge({ 'Sec-WebSocket-Key': key })).toMatchObject({ key });
  });

  test.each<[string, string | string[], string[]]>([
    ['a name twice', 'a, b, a', ['a', 'b']],
    ['a name twice on two lines', ['a', 'a'], ['a']],
    ['empty places in the list', ',a,, b ,', ['a', 'b']],
    ['nothing', '', []],
    ['nothing but commas', ' , ,', []],
  ])('reads subprotocols with %s', async (_what, header, subprotocols) => {
    expect(await judge({ 'Sec-WebSocket-Protocol': header })).toMatchObject({ subprotocols });
  });

  test.each<[string, number, string, Record<string, string | string[] | undefined>, string?]>([
    ['another method', 405, 'ERR_WS_BAD_HANDSHAKE', {}, 'POST /chat HTTP/1.1'],
    ['HTTP/1.0', 400, 'ERR_WS_BAD_HANDSHAKE', {}, 'GET /chat HTTP/1.0'],
    ['HTTP/2.0 on a line of HTTP/1', 400, 'ERR_WS_BAD_HANDSHAKE', {}, 'GET /chat HTTP/2.0'],
    ['a plain GET', 426, 'ERR_WS_UPGRADE_REQUIRED', { Upgrade: undefined, Connection: 'keep-alive' }],
    ['an upgrade to something else', 426, 'ERR_WS_UPGRADE_REQUIRED', { Upgrade: 'h2c' }],
    ['an upgrade to nearly the right thing', 426, 'ERR_WS_UPGRADE_REQUIRED', { Upgrade: 'websockets' }],
    ['no Connection', 400, 'ERR_WS_BAD_HANDSHAKE', { Connection: undefined }],
    ['a Connection that does not name Upgrade', 400, 'ERR_WS_BAD_HANDSHAKE', { Connection: 'keep-alive' }],
    ['no version', 426, 'ERR_WS_BAD_VERSION', { 'Sec-WebSocket-Version': undefined }],
    ['version 8', 426, 'ERR_WS_BAD_VERSION', { 'Sec-WebSocket-Version': '8' }],
    ['version 013', 426, 'ERR_WS_BAD_VERSION', { 'Sec-WebSocket-Version': '013' }],
    ['version 13 twice', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Sec-WebSocket-Version': ['13', '13'] }],
    ['a list of versions', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Sec-WebSocket-Version': '13, 8' }],
    ['no key', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Sec-WebSocket-Key': undefined }],
    ['an empty key', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Sec-WebSocket-Key': '' }],
    ['a key twice', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Sec-WebSocket-Key': [KEY, KEY] }],
    ['a key of 15 bytes', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25j' }],
    ['a key of 17 bytes', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZWQ=' }],
    ['a key without padding', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ' }],
    ['a key in base64url', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Sec-WebSocket-Key': '-GhlIHNhbXBsZSBub25jZQ==' }],
    ['a subprotocol that is no token', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Sec-WebSocket-Protocol': 'a/b' }],
    ['a body', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Content-Length': '5' }],
    ['a body in chunks', 400, 'ERR_WS_BAD_HANDSHAKE', { 'Transfer-Encoding': 'chunked' }],
  ])('refuses %s with %i', async (_what, status, code, changes, requestLine) => {
    expect(await judge(changes, requestLine)).toMatchObject({ allow: false, status, code });
  });

  test('refuses a request without a host', async () => {
    const head = await receiveGoodHead(['GET / HTTP/1.1', ...Object.entries(GOOD).map(pair => pair.join(': '))]);
    expect(parseUpgrade({ ...head, host: '' })).toMatchObject({ status: 400, code: 'ERR_WS_BAD_HANDSHAKE' });
  });

  test('says in the refusal what it would take', async () => {
    expect(await judge({ 'Sec-WebSocket-Version': '25' })).toMatchObject({
      headers: { 'Sec-WebSocket-Version': '13' },
    });
    expect(await judge({ Upgrade: undefined })).toMatchObject({ headers: { Upgrade: 'websocket' } });
    expect(await judge({}, 'PUT / HTTP/1.1')).toMatchObject({ headers: { Allow: 'GET' } });
  });
});

test('a request that asks for a WebSocket has what it asks for in its head, and any other has nothing there', async () => {
  const lines = Object.entries(GOOD).map(pair => pair.join(': '));
  const head = await receiveGoodHead(['GET / HTTP/1.1', ...lines]);
  expect(head).toMatchObject({ isUpgrade: true, upgrade: { key: KEY } });
  const bad = await receiveGoodHead(['GET / HTTP/1.1', ...lines.slice(0, 3)]);
  expect(bad).toMatchObject({ isUpgrade: true, upgrade: { allow: false, status: 426 } });
  const plain = await receiveGoodHead(['GET / HTTP/1.1', 'Host: a']);
  expect(plain).toMatchObject({ isUpgrade: false, upgrade: undefined });
});
