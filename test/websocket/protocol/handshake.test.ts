import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { WebSocketServer, WebSocket as WsClient } from 'ws';
import { emptyAddressList } from '../../../src/http/address-list.ts';
import { isRefusal } from '../../../src/http/refusal.ts';
import { type RequestHead, readRequestHead } from '../../../src/http/request-head.ts';
import { parseUpgrade } from '../../../src/http/upgrade-request.ts';
import { refusalResponse } from '../../../src/http/write-refusal.ts';
import {
  acceptKey,
  checkUpgradeResponse,
  createUpgradeRequest,
  upgradeResponse,
} from '../../../src/websocket/protocol/handshake.ts';
import { receiveGoodHead } from '../../http/receive-head.ts';
import { closing } from '../../services/closing.ts';

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

const open = closing();

/** An HTTP server whose upgrade sockets get what `answer` makes of the request. */
async function serveUpgrades(answer: (head: RequestHead) => string): Promise<number> {
  const server = createServer();
  server.on('upgrade', (incoming, socket) => {
    const head = readRequestHead(incoming, { trustedProxies: emptyAddressList });
    if (isRefusal(head)) throw new Error(head.reason);
    socket.on('error', () => {});
    const text = answer(head);
    if (text.startsWith('HTTP/1.1 101')) socket.write(text);
    else socket.end(text);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push({
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  });
  return (server.address() as AddressInfo).port;
}

/** The head of a 101; what is undefined is left out. */
function switching(headers: Record<string, string | undefined>) {
  const lines = Object.entries(headers).filter((line): line is [string, string] => line[1] !== undefined);
  return { status: 101, rawHeaders: lines.flat() };
}

describe('acceptKey', () => {
  test('is the example of RFC 6455 §1.3', () => {
    expect(acceptKey(KEY)).toBe('s3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
  });
});

describe('upgradeResponse', () => {
  test('is a whole head and nothing more', () => {
    expect(upgradeResponse({ key: KEY })).toBe(
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n',
    );
  });

  test('leaves empty extensions out', () => {
    expect(upgradeResponse({ key: KEY, extensions: '' })).not.toContain('Extensions');
  });

  test.each([
    ['a line break in a value', { 'X-A': 'b\r\nSet-Cookie: c=d' }],
    ['a bare line feed', { 'X-A': 'b\nc' }],
    ['a bare carriage return', { 'X-A': 'b\rc' }],
    ['NUL', { 'X-A': 'b\0c' }],
    ['a character beyond Latin-1', { 'X-A': '→' }],
    ['a line break in one value of a list', { 'X-A': ['b', 'c\r\nd'] }],
    ['a line break in a name', { 'X-A: b\r\nX-C': 'd' }],
    ['a colon in a name', { 'X:A': 'b' }],
    ['an empty name', { '': 'b' }],
    ['a header of the handshake', { 'sec-websocket-accept': 'x' }],
    ['a length', { 'Content-Length': '5' }],
    ['a second Connection', { CONNECTION: 'close' }],
  ])('throws a TypeError for %s in the headers', (_what, headers) => {
    expect(() => upgradeResponse({ key: KEY, headers })).toThrow(TypeError);
  });

  test('throws a TypeError for a line break in the subprotocol or the extensions', () => {
    expect(() => upgradeResponse({ key: KEY, subprotocol: 'a\r\nb: c' })).toThrow(TypeError);
    expect(() => upgradeResponse({ key: KEY, extensions: 'a\r\nb: c' })).toThrow(TypeError);
  });

  test('does not repeat a value that may be a secret in its message', () => {
    expect(() => upgradeResponse({ key: KEY, headers: { 'Set-Cookie': 'secret\n' } })).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('secret') }),
    );
  });

  test('opens a connection for the client of ws and for the one of undici', async () => {
    const port = await serveUpgrades(head => {
      const asked = parseUpgrade(head);
      if (isRefusal(asked)) return refusalResponse(asked);
      return upgradeResponse({
        key: asked.key,
        subprotocol: asked.subprotocols[1],
        headers: { 'Set-Cookie': ['a=1', 'b=2'], 'X-Who': 'me' },
      });
    });
    const client = new WsClient(`ws://127.0.0.1:${port}/chat`, ['one', 'two']);
    open.push({ close: () => client.terminate() });
    const [upgrade] = (await once(client, 'upgrade')) as [IncomingMessage];
    expect(upgrade.headers['set-cookie']).toEqual(['a=1', 'b=2']);
    expect(upgrade.headers['x-who']).toBe('me');
    expect(client.protocol).toBe('two');

    const browserLike = new WebSocket(`ws://127.0.0.1:${port}/chat`, ['one', 'two']);
    await new Promise((resolve, reject) => {
      browserLike.addEventListener('open', resolve);
      browserLike.addEventListener('error', reject);
    });
    expect(browserLike.protocol).toBe('two');
    browserLike.close();
  });
});

describe('createUpgradeRequest', () => {
  test('is a handshake that our server half accepts', async () => {
    const { key, bytes } = createUpgradeRequest({
      host: 'example.com:8080',
      path: '/a?b=c',
      subprotocols: ['x', 'y'],
      extensions: 'permessage-deflate',
      origin: 'https://example.com',
      headers: { Cookie: 'a=b', 'X-Two': ['1', '2'] },
    });
    const head = await receiveGoodHead(bytes.toString('latin1').trimEnd().split('\r\n'));
    expect(head).toMatchObject({ path: '/a', query: 'b=c', host: 'example.com:8080' });
    expect(head.headers).toMatchObject({ cookie: 'a=b', origin: 'https://example.com', 'x-two': '1, 2' });
    expect(parseUpgrade(head)).toEqual({ key, subprotocols: ['x', 'y'], extensions: 'permessage-deflate' });
  });

  test('makes a new key for each request', () => {
    const keys = Array.from({ length: 50 }, () => createUpgradeRequest({ host: 'a', path: '/' }).key);
    expect(new Set(keys).size).toBe(50);
  });

  test('opens a connection to the server of ws', async () => {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'y' });
    await once(server, 'listening');
    open.push(server);
    const { port } = server.address() as AddressInfo;
    const asked = { host: `127.0.0.1:${port}`, path: '/', subprotocols: ['x', 'y'] };
    const { key, bytes } = createUpgradeRequest(asked);
    const socket = connect(port, '127.0.0.1');
    open.push({ close: () => socket.destroy() });
    socket.write(bytes);
    const [data] = (await once(socket, 'data')) as [Buffer];
    const [statusLine, ...lines] = data.toString('latin1').split('\r\n\r\n')[0]!.split('\r\n');
    expect(statusLine).toMatch(/^HTTP\/1\.1 101 /);
    const headers = Object.fromEntries(lines.map(line => [line.split(': ')[0]!.toLowerCase(), line.split(': ')[1]]));
    expect(checkUpgradeResponse(switching(headers), { ...asked, key })).toEqual({
      subprotocol: 'y',
      extensions: undefined,
    });
  });

  test.each([
    ['a path without a slash', { path: 'a' }],
    ['a path with a space', { path: '/a HTTP/1.1' }],
    ['a path with a line break', { path: '/\r\nX: y' }],
    ['a host with a line break', { host: 'a\r\nX: y' }],
    ['an empty host', { host: '' }],
    ['an origin with a line break', { origin: 'a\r\nX: y' }],
    ['a header with a line break', { headers: { 'X-A': 'a\r\nX: y' } }],
    ['a subprotocol twice', { subprotocols: ['a', 'a'] }],
    ['a subprotocol that is no token', { subprotocols: ['a,b'] }],
    ['an empty subprotocol', { subprotocols: [''] }],
    ['a header of the handshake', { headers: { 'Sec-WebSocket-Key': KEY } }],
  ])('throws a TypeError for %s', (_what, change) => {
    expect(() => createUpgradeRequest({ host: 'a', path: '/', ...change })).toThrow(TypeError);
  });
});

describe('checkUpgradeResponse', () => {
  const good = {
    upgrade: 'WebSocket',
    connection: 'keep-alive, upgrade',
    'sec-websocket-accept': 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=',
  };
  const asked = { key: KEY, subprotocols: ['a', 'b'], extensions: 'permessage-deflate' };

  test('takes a good answer', () => {
    expect(checkUpgradeResponse(switching(good), asked)).toEqual({
      subprotocol: undefined,
      extensions: undefined,
    });
    const headers = { ...good, 'sec-websocket-protocol': 'b', 'sec-websocket-extensions': 'permessage-deflate; x' };
    expect(checkUpgradeResponse(switching(headers), asked)).toEqual({
      subprotocol: 'b',
      extensions: 'permessage-deflate; x',
    });
  });

  test.each<[string, Record<string, string | undefined>]>([
    ['no Upgrade', { upgrade: undefined }],
    ['another Upgrade', { upgrade: 'h2c' }],
    ['no Connection', { connection: undefined }],
    ['another Connection', { connection: 'close' }],
    ['no Accept', { 'sec-websocket-accept': undefined }],
    ['an Accept for another key', { 'sec-websocket-accept': acceptKey('AAAAAAAAAAAAAAAAAAAAAA==') }],
    ['a subprotocol that was not offered', { 'sec-websocket-protocol': 'c' }],
    ['two subprotocols', { 'sec-websocket-protocol': 'a, b' }],
  ])('refuses %s', (_what, change) => {
    expect(() => checkUpgradeResponse(switching({ ...good, ...change }), asked)).toThrow(
      expect.objectContaining({ code: 'ERR_WS_BAD_HANDSHAKE' }),
    );
  });

  test('refuses subprotocols and extensions where none was offered', () => {
    for (const extra of [{ 'sec-websocket-protocol': 'a' }, { 'sec-websocket-extensions': 'permessage-deflate' }]) {
      expect(() => checkUpgradeResponse(switching({ ...good, ...extra }), { key: KEY })).toThrow(
        expect.objectContaining({ code: 'ERR_WS_BAD_HANDSHAKE' }),
      );
    }
  });

  test('hands on the status of a refusal', () => {
    expect(() => checkUpgradeResponse({ status: 403, rawHeaders: [] }, asked)).toThrow(
      expect.objectContaining({ code: 'ERR_WS_BAD_HANDSHAKE', status: 403 }),
    );
  });
});
