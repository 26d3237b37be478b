import { readFileSync } from 'node:fs';
import { io, type Socket } from 'socket.io-client';
import { expect, onTestFinished, test } from 'vitest';
import { ask, closeCode, connect, nextMessage, open, refusedWith, start } from '../examples/example-client.ts';
import type { ExampleProcess } from '../examples/example-process.ts';

const guide = readFileSync(new URL('../../docs/guides/express-with-sessions-and-sockets.md', import.meta.url), 'utf8');

/** Posts as a page of the example does; returns the cookie that the client has then. */
async function post(example: ExampleProcess, path: string, cookie: string, body?: object): Promise<string> {
  const isForm = body instanceof URLSearchParams;
  const response = await fetch(example.url(path), {
    method: 'POST',
    redirect: 'manual',
    headers: { cookie, origin: example.origin, ...(body && !isForm && { 'content-type': 'application/json' }) },
    ...(body && { body: isForm ? body : JSON.stringify(body) }),
  });
  expect([204, 303]).toContain(response.status);
  await response.arrayBuffer();
  return response.headers.getSetCookie()[0]?.split(';')[0] ?? cookie;
}

async function pageOf(example: ExampleProcess, cookie = '') {
  const response = await fetch(example.url('/'), { headers: { cookie } });
  expect(response.status).toBe(200);
  return { text: await response.text(), cookie: response.headers.getSetCookie()[0]?.split(';')[0] ?? cookie };
}

/** What comes with the next event of a socket. */
function next(socket: Socket, event: string): Promise<unknown[]> {
  return new Promise(resolve => {
    socket.once(event, (...values: unknown[]) => resolve(values));
  });
}

const messages = (refusals: readonly (readonly unknown[])[]) => refusals.map(([error]) => (error as Error).message);

test.each([
  ['express-with-sockets', (name: string) => new URLSearchParams({ name })],
  ['fastify-with-sockets', (name: string) => ({ name })],
  ['hono-with-sockets', (name: string) => ({ name })],
])('the program %s of the guide: one login, and a logout closes the sockets with 1008', async (name, formOf) => {
  expect(guide).toContain(`\n// examples/${name}/main.ts\n`);
  const example = await start(name);
  const visit = await pageOf(example);
  expect(await refusedWith(connect(example, '/live', { headers: { cookie: visit.cookie } }))).toBe(403);

  const first = await post(example, '/sign-in', visit.cookie, formOf('ann'));
  expect(first).not.toBe(visit.cookie);
  expect((await pageOf(example, first)).text).toMatch(/signed in|you are ann/);
  const tabs = [1, 2].map(() => connect(example, '/live', { headers: { cookie: first } }));
  expect(await Promise.all(tabs.map(nextMessage))).toEqual(['hello ann', 'hello ann']);
  if (name === 'express-with-sockets') {
    expect(await ask(tabs[0]!, '')).toBe('message 1 of your session');
    expect(await ask(tabs[1]!, '')).toBe('message 2 of your session');
  }

  // A login again: they come again with the new cookie.
  const renewed = Promise.all(tabs.map(closeCode));
  const second = await post(example, '/sign-in', first, formOf('ann'));
  expect(await renewed).toEqual([1012, 1012]);
  const again = await open(example, '/live', { headers: { cookie: second } });

  const closed = closeCode(again);
  await post(example, '/sign-out', second);
  expect(await closed).toBe(1008);
  expect(await refusedWith(connect(example, '/live', { headers: { cookie: second } }))).toBe(403);
  // A page of another site opens no socket with the visitor's session.
  const third = await post(example, '/sign-in', '', formOf('bob'));
  const foreign = { headers: { cookie: third }, origin: 'https://other.example' };
  expect(await refusedWith(connect(example, '/live', foreign))).toBe(403);
});

test.each(['express-with-sockets', 'fastify-with-sockets', 'hono-with-sockets'])(
  '%s goes on with its sessions after kill -9, and closes its sockets with 1001 at SIGTERM',
  async name => {
    const example = await start(name);
    const form = { name: 'ann' };
    const cookie = await post(example, '/sign-in', '', name.startsWith('express') ? new URLSearchParams(form) : form);
    await example.kill();
    await example.start();
    const socket = connect(example, '/live', { headers: { cookie } });
    expect(await nextMessage(socket)).toBe('hello ann');
    const closed = closeCode(socket);
    const ended = example.terminate();
    expect(await closed).toBe(1001);
    expect(await ended).toBe(0);
  },
);

test.each(['polling', 'websocket'])(
  'the Socket.IO program of the guide, over %s: a socket has the session of its client, and a logout disconnects it',
  async transport => {
    expect(guide).toContain('\n// examples/socket-io/main.ts\n');
    const example = await start('socket-io');
    const dial = (cookie: string, reconnection = false) => {
      const options = { transports: [transport], extraHeaders: { cookie }, forceNew: true, reconnectionDelay: 10 };
      const socket = io(example.origin, { ...options, reconnection });
      onTestFinished(() => void socket.close());
      return socket;
    };
    expect(messages([await next(dial(''), 'connect_error')])).toEqual(['sign in first']);

    const { cookie: visit } = await pageOf(example);
    const stranger = dial(visit);
    expect(await next(stranger, 'hello')).toEqual(['a stranger']);
    expect(await stranger.emitWithAck('count')).toBe(1);
    const left = next(stranger, 'disconnect');
    const cookie = await post(example, '/sign-in', visit, { name: 'ann' });
    await left; // it may come again with the cookie of the login

    const sockets = [dial(cookie, true), dial(cookie, true)];
    expect(await Promise.all(sockets.map(socket => next(socket, 'hello')))).toEqual([['ann'], ['ann']]);
    expect(await sockets[0]!.emitWithAck('count')).toBe(2);
    expect(await sockets[1]!.emitWithAck('count')).toBe(3);

    const refusals = sockets.map(socket => next(socket, 'connect_error'));
    const disconnected = sockets.map(socket => next(socket, 'disconnect'));
    await post(example, '/sign-out', cookie);
    await Promise.all(disconnected);
    // They come again by themselves, and stay away.
    expect(messages(await Promise.all(refusals))).toEqual(['sign in first', 'sign in first']);
    expect(sockets.map(socket => socket.active)).toEqual([false, false]);
  },
);
