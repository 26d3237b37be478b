import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { ask, closeCode, connect, nextMessage, open, refusedWith, start } from '../examples/example-client.ts';
import type { ExampleProcess } from '../examples/example-process.ts';

/** Opens a page as a browser does, and returns its cookie and text. */
async function navigate(example: ExampleProcess, path: string, cookie = '') {
  const response = await fetch(example.url(path), {
    headers: { accept: 'text/html', 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate', cookie },
  });
  expect(response.status).toBe(200);
  const set = response.headers.getSetCookie()[0];
  return { cookie: set ? set.split(';')[0]! : cookie, text: await response.text() };
}

test('hello-server counts over connections and over kill -9', async () => {
  const example = await start('hello-server');
  const { cookie, text } = await navigate(example, '/');
  expect(text).toContain('<input');

  const first = connect(example, '/hello', { headers: { cookie } });
  expect(await ask(first, 'ann')).toBe('hello ann, this is message 1 of your session');
  first.terminate();
  const second = connect(example, '/hello', { headers: { cookie } });
  expect(await ask(second, 'ann')).toBe('hello ann, this is message 2 of your session');
  second.terminate();

  await example.kill();
  await example.start();
  const third = connect(example, '/hello', { headers: { cookie } });
  expect(await ask(third, 'ann')).toBe('hello ann, this is message 3 of your session');
});

test('hello-gateway tells the backend the session, and not what the client claims', async () => {
  const example = await start('hello-gateway');
  const visit = await navigate(example, '/');
  expect(visit.text).toMatch(/^you are session [\w-]{22}\n$/);
  expect((await navigate(example, '/', visit.cookie)).text).toBe(visit.text);

  const forged = await fetch(example.url('/'), { headers: { 'x-session-id': 'forged', accept: '*/*' } });
  expect(await forged.text()).toBe('you are session (none)\n');
});

test('rooms: a message reaches everybody in its room and nobody elsewhere', async () => {
  const example = await start('rooms');
  const ann = await open(example, '/rooms/tea?name=ann');
  const bob = await open(example, '/rooms/tea?name=bob');
  const cid = await open(example, '/rooms/coffee?name=cid');

  ann.send('good morning');
  expect(await Promise.all([ann, bob].map(nextMessage))).toEqual(['ann: good morning', 'ann: good morning']);
  // The first that reaches the other room is its own.
  expect(await ask(cid, 'hello?')).toBe('cid: hello?');

  expect(await refusedWith(connect(example, '/rooms/tea'))).toBe(400);
});

test('sign-in: the cookie is new after signing in, and signing out closes every socket', async () => {
  const example = await start('sign-in');
  const before = await navigate(example, '/');
  const post = (path: string, cookie: string, body?: string) =>
    fetch(example.url(path), {
      method: 'POST',
      redirect: 'manual',
      headers: { cookie, 'content-type': 'application/x-www-form-urlencoded', origin: example.origin },
      ...(body !== undefined && { body }),
    });

  expect(await refusedWith(connect(example, '/live', { headers: { cookie: before.cookie } }))).toBe(403);

  const signedIn = await post('/sign-in', before.cookie, 'name=ann');
  expect(signedIn.status).toBe(303);
  const cookie = signedIn.headers.getSetCookie()[0]!.split(';')[0]!;
  expect(cookie).not.toBe(before.cookie);
  expect((await navigate(example, '/', cookie)).text).toContain('You are signed in.');

  const tabs = [1, 2].map(() => connect(example, '/live', { headers: { cookie } }));
  expect(await Promise.all(tabs.map(nextMessage))).toEqual(['hello ann', 'hello ann']);
  const closed = Promise.all(tabs.map(closeCode));
  await post('/sign-out', cookie);
  expect(await closed).toEqual([1008, 1008]);
});

test('attach: the old application answers, and the clock ticks beside it', async () => {
  const example = await start('attach');
  expect(await (await fetch(example.origin)).text()).toBe('still the same application\n');
  const socket = connect(example, '/clock');
  expect(Date.parse(await nextMessage(socket))).toBeGreaterThan(0);
});

test('big-messages: fragments are hashed as they come, and a reply of many lines is one message', async () => {
  const example = await start('big-messages');
  const socket = await open(example, '/digest');
  const chunk = Buffer.alloc(64 * 1024, 'x');
  for (let i = 0; i < 63; i++) socket.send(chunk, { fin: false });
  const hash = nextMessage(socket);
  socket.send(chunk, { fin: true });
  expect(await hash).toBe(
    createHash('sha256')
      .update(Buffer.alloc(64 * 64 * 1024, 'x'))
      .digest('hex'),
  );

  const lines = (await ask(socket, '1000')).trimEnd().split('\n');
  expect(lines).toHaveLength(1000);
  expect(lines.at(-1)).toBe('line 1000');
});
