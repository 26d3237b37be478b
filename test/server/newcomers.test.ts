import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { defineEndpoint } from 'holdfast';
import { afterEach, describe, expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { createAddressList } from '../../src/http/address-list.ts';
import { Newcomers } from '../../src/server/listen/newcomers.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { closing } from '../services/closing.ts';
import { ask, knock, Lines, WiredServer, wires } from './wires.ts';

const open = closing();
const sockets = new Set<Socket>();
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});

async function serve(config: Config, logger?: Lines): Promise<WiredServer> {
  const routes = [{ path: '/', fetch: () => new Response('page') }, { endpoint: defineEndpoint({ path: '/socket' }) }];
  const server = await WiredServer.start({ routes, ...config }, logger);
  open.push(server);
  return server;
}

/** A connection that sends these bytes and no more. */
async function dial(port: number, bytes: string | Buffer = '', localAddress?: string): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, ...(localAddress !== undefined && { localAddress }) });
  sockets.add(socket.on('error', () => {}));
  await once(socket, 'connect');
  if (bytes.length > 0) socket.write(bytes);
  socket.resume();
  return socket;
}

/** What a client of TLS says first. */
async function clientHello(): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  const wire = new Duplex({ read() {}, write: (bytes: Buffer) => resolve(bytes) });
  const client = connectTls({ socket: wire, servername: 'localhost' }).on('error', () => {});
  const hello = await promise;
  client.destroy();
  return hello;
}

async function tlsClient(port: number, protocol: 'h2' | 'http/1.1'): Promise<Socket> {
  const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: [protocol] });
  sockets.add(socket.on('error', () => {}));
  await once(socket, 'secureConnect');
  socket.resume();
  return socket;
}

const HALF = 'GET / HTTP/1.1\r\nHost: a\r\n';
const WHOLE = `${HALF}\r\n`;
const PROXY = (address: string) => `PROXY TCP${address.includes(':') ? 6 : 4} ${address} ${address} 3000 80\r\n`;

/** Waits until exactly these are closed. */
async function expectClosed(all: readonly Socket[], closed: readonly Socket[]): Promise<void> {
  await expect.poll(() => all.map(socket => socket.closed)).toEqual(all.map(socket => closed.includes(socket)));
}

describe('connections that have not brought a request', () => {
  test('give way to new ones, those first that have waited longest, whatever they wait for', async () => {
    const server = await serve({ unusedConnections: 4 });
    const hello = await clientHello();
    const old = [
      await dial(server.port('http/1')),
      await dial(server.port('http/1'), HALF),
      await dial(server.port('tls')),
      await dial(server.port('tls'), hello),
    ];
    for (const [i, wire] of wires.entries()) {
      expect((await ask(server, wire)).body).toBe('page');
      await expectClosed(old, old.slice(0, i + 1));
      // In the place of the one that was answered.
      await dial(server.port('http/1'));
    }
    expect((await knock(server, 'tls', { path: '/socket' })).status).toBe(101);
    await expectClosed(old, old);
  });

  test.each(['http/1.1', 'h2'] as const)('give way behind their TLS handshake, too (%s)', async protocol => {
    const server = await serve({ unusedConnections: 1 });
    const idle = await tlsClient(server.port('tls'), protocol);
    expect((await ask(server, 'http/1')).body).toBe('page');
    await expectClosed([idle], [idle]);
  });

  test('stay when there are no more than may be, and those that are gone do not count', async () => {
    const server = await serve({ unusedConnections: 3 });
    const patient = await dial(server.port('http/1'), HALF);
    for (let i = 0; i < 3; i++) {
      for (const wire of ['http/1', 'tls'] as const) {
        const gone = await dial(server.port(wire));
        gone.destroy();
        await once(gone, 'close');
        // When the next one comes the server has seen it, too.
        expect((await ask(server, wire)).body).toBe('page');
      }
    }
    patient.write('\r\n');
    const [answer] = await once(patient, 'data');
    expect(String(answer)).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('are told in the log, once a minute, and each in the security log', async () => {
    const log = new Lines();
    const server = await serve({ unusedConnections: 1 }, log);
    const all = [];
    for (let i = 0; i < 4; i++) all.push(await dial(server.port('http/1')));
    await expectClosed(all, all.slice(0, 3));
    const warnings = log.all.filter(({ fields }) => fields.event === 'unused-connections');
    expect(warnings).toMatchObject([{ level: 'warn', fields: { limit: 1, ended: 1 } }]);
    const ended = log.all.filter(({ fields }) => fields.event === 'slow-client');
    expect(ended.map(({ fields }) => fields.address)).toEqual(['127.0.0.1', '127.0.0.1', '127.0.0.1']);
  });
});

describe('connections that have brought a request', () => {
  test.each(wires)('never give way to new ones (%s)', async wire => {
    const server = await serve({ unusedConnections: 1, unusedConnectionsPerAddress: 1 });
    const port = server.port(wire);
    const kept = wire === 'http/1' ? await dial(port) : await tlsClient(port, 'http/1.1');
    kept.write(WHOLE);
    await once(kept, 'data');
    for (let i = 0; i < 3; i++) await dial(server.port('http/1'));
    kept.write(WHOLE);
    await once(kept, 'data');
  });
});

describe('connections of one address that have not brought a request', () => {
  test('give way to new ones of this address, and not to those of others', async () => {
    const server = await serve({ unusedConnectionsPerAddress: 2 });
    const port = server.port('http/1');
    const other = await dial(port, HALF, '127.0.0.3');
    const own = [];
    for (let i = 0; i < 5; i++) own.push(await dial(port, HALF, '127.0.0.2'));
    await expectClosed([other, ...own], own.slice(0, 3));
  });

  test('are those of the client that a PROXY header names, in plain and in TLS', async () => {
    const listen: Config['listen'] = [{ port: 0, host: '127.0.0.1', proxyProtocol: 'required' }];
    const server = await serve({ listen, trustedProxies: ['127.0.0.1'], unusedConnectionsPerAddress: 2 });
    const port = server.port('http/1');
    const silent = [await dial(port), await dial(port), await dial(port)];
    const one = await dial(port, PROXY('192.0.2.1'));
    const six = [];
    for (const end of [1, 2, 3]) six.push(await dial(port, PROXY(`2001:db8::${end}`)));
    await expectClosed([...silent, one, ...six], six.slice(0, 1));
    const many = [];
    for (let i = 0; i < 3; i++) many.push(await dial(port, PROXY('192.0.2.1') + HALF));
    await expectClosed([one, ...many], [one, many[0]!]);
  });

  test.each([
    ['192.0.2.1', 1_000],
    ['2001:db8::1', 1_000],
    ['10.0.0.1', 1_005],
    ['127.0.0.1', 1_005],
    ['fd00::1', 1_005],
    ['203.0.113.9', 1_005],
    ['', 1_005],
  ])('from %j are at most %i where nothing is said', (remoteAddress, most) => {
    const trustedProxies = createAddressList(['203.0.113.9']);
    const newcomers = new Newcomers({}, { clock: new FakeClock(), logger: new Lines(), trustedProxies });
    let ended = 0;
    for (let i = 0; i < 1_005; i++)
      newcomers.enter({ remoteAddress, destroy: () => void ended++ } as unknown as Socket);
    expect([newcomers.size, ended]).toEqual([most, 1_005 - most]);
  });

  test('are as many as they like where -1 is said', async () => {
    const server = await serve({ unusedConnections: -1, unusedConnectionsPerAddress: -1 });
    const all = await Promise.all(Array.from({ length: 50 }, () => dial(server.port('http/1'), HALF)));
    expect((await ask(server, 'http/1')).body).toBe('page');
    expect(all.filter(socket => socket.closed)).toEqual([]);
  });
});
