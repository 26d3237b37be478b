import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket, Server as TlsServer } from 'node:tls';
import { afterAll, describe, expect, test } from 'vitest';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { createAuthority } from '../self-signed-certificate.ts';
import { closing } from '../services/closing.ts';
import { ask, backendCa, knock, RawBackend, WiredServer, wires } from './wires.ts';

const open = closing();
const folder = mkdtempSync(join(tmpdir(), 'holdfast-tls-sessions-'));
const ca = join(folder, 'ca.pem');
const otherCa = join(folder, 'other.pem');
writeFileSync(ca, backendCa);
writeFileSync(otherCa, createAuthority('another').certificate);
afterAll(() => rmSync(folder, { recursive: true }));

const ANSWER = 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok';

type Version = 'TLSv1.2' | 'TLSv1.3';

/** A backend that notes for each connection whether it resumed a session. */
async function resuming(version: Version) {
  const backend = await RawBackend.listen({ minVersion: version, maxVersion: version });
  open.push(backend);
  backend.answer = () => ANSWER;
  const resumed: boolean[] = [];
  const raw: Socket[] = [];
  backend.server.on('connection', (socket: Socket) => raw.push(socket));
  backend.server.on('secureConnection', (socket: TLSSocket) => resumed.push(socket.isSessionReused()));
  return { backend, resumed, raw };
}

describe.each(['TLSv1.2', 'TLSv1.3'] as const)('%s: a session with a backend is resumed', version => {
  test('by requests and handshakes of every kind of client', async () => {
    const { backend, resumed } = await resuming(version);
    const server = await WiredServer.upstream(backend, {}, {}, { tls: { ca } });
    open.push(server);
    for (const wire of wires) for (const asked of [ask, knock]) await asked(server, wire);
    expect(resumed).toEqual([false, true, true, true, true, true]);
  });

  test('by active checks', async () => {
    const { backend, resumed } = await resuming(version);
    const server = await WiredServer.upstream(backend, {}, {}, { tls: { ca }, health: { interval: '30ms' } });
    open.push(server);
    await expect.poll(() => resumed.length).toBeGreaterThan(2);
    expect(resumed.slice(0, 3)).toEqual([false, true, true]);
  });

  test('although its connections end with a reset', async () => {
    const { backend, resumed, raw } = await resuming(version);
    backend.answer = () => {
      setTimeout(() => raw.at(-1)!.resetAndDestroy(), 10);
      return ANSWER.replace('Connection: close\r\n', '');
    };
    const server = await WiredServer.upstream(backend, {}, {}, { tls: { ca }, ejection: false });
    open.push(server);
    for (let i = 0; i < 4; i++) {
      await ask(server, 'http/1');
      await expect.poll(() => raw.at(-1)!.destroyed).toBe(true);
      await new Promise(resolve => setTimeout(resolve, 20));
    }
    expect(resumed).toEqual([false, true, true, true]);
  });

  test('although another connection of the server breaks off', async () => {
    const { backend, resumed } = await resuming(version);
    const server = await WiredServer.upstream(backend, {}, {}, { tls: { ca }, ejection: false, answerTimeout: '50ms' });
    open.push(server);
    await ask(server, 'http/1');
    backend.answer = () => undefined;
    expect((await ask(server, 'http/1')).status).toBe(504);
    backend.answer = (_, socket) => void socket.destroy();
    await ask(server, 'http/1');
    backend.answer = () => ANSWER;
    expect((await ask(server, 'http/1')).status).toBe(200);
    expect(resumed[0]).toBe(false);
    expect(resumed.slice(1)).not.toContain(false);
  });

  test('and a server that does not know it any more gets a new one', async () => {
    const { backend, resumed } = await resuming(version);
    const server = await WiredServer.upstream(backend, {}, {}, { tls: { ca } });
    open.push(server);
    await ask(server, 'http/1');
    (backend.server as TlsServer).setTicketKeys(Buffer.alloc(48, 7));
    for (let i = 0; i < 3; i++) expect((await ask(server, 'http/1')).status).toBe(200);
    expect([resumed[0], resumed.at(-1)]).toEqual([false, true]);
  });

  test('for an hour: then the server has to show its certificate again', async () => {
    const { backend, resumed } = await resuming(version);
    const clock = new FakeClock();
    const upstreams = { app: { servers: [backend.url], tls: { ca } } };
    const server = await WiredServer.start({ upstreams, routes: [{ path: '/*', upstream: 'app' }] }, undefined, clock);
    open.push(server);
    for (let i = 0; i < 5; i++) {
      expect((await ask(server, 'http/1')).status).toBe(200);
      await clock.advance(25 * 60_000);
    }
    expect(resumed).toEqual([false, true, true, false, true]);
  });

  test('and never one of a handshake in which the server had another name, or nobody vouched for it', async () => {
    const { backend, resumed } = await resuming(version);
    for (const tls of [{ ca, serverName: 'other.example' }, { ca: otherCa }]) {
      const server = await WiredServer.upstream(backend, {}, {}, { tls, ejection: false });
      open.push(server);
      for (let i = 0; i < 4; i++) {
        expect((await ask(server, 'http/1')).status).toBe(502);
        expect((await knock(server, 'http/1')).status).toBe(502);
      }
    }
    expect(backend.requests).toEqual([]);
    expect(resumed).not.toContain(true);
  });

  test('but by no upstream that trusts others', async () => {
    const { backend, resumed } = await resuming(version);
    const server = await WiredServer.start({
      upstreams: {
        one: { servers: [backend.url], tls: { ca } },
        two: { servers: [backend.url], tls: { ca: otherCa } },
        three: { servers: [backend.url], tls: { ca, serverName: 'other.example' } },
      },
      routes: ['one', 'two', 'three'].map(upstream => ({ path: `/${upstream}`, upstream })),
    });
    open.push(server);
    const statuses: number[] = [];
    for (const path of ['/one', '/two', '/three', '/one', '/two', '/three'])
      statuses.push((await ask(server, 'http/1', { path })).status);
    expect(statuses.map(status => (status >= 500 ? 'refused' : status))).toEqual([
      ...[200, 'refused', 'refused', 200, 'refused', 'refused'],
    ]);
    expect(resumed.filter(Boolean).length).toBe(1);
  });
});
