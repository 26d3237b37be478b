import { expect, test } from 'vitest';
import { connect, nextMessage, refusedWith, start } from './example-client.ts';
import type { ExampleProcess } from './example-process.ts';

const FRIEND = 'http://www.example.com:7001';
const STRANGER = 'https://stranger.example';

async function signIn(example: ExampleProcess, name: string): Promise<string> {
  const response = await fetch(example.url('/sign-in'), {
    method: 'POST',
    redirect: 'manual',
    body: new URLSearchParams({ name }),
  });
  expect(response.status).toBe(303);
  return response.headers.getSetCookie()[0]!.split(';')[0]!;
}

test('origin-or-permission takes the origin from anybody', async () => {
  const example = await start('origin-or-permission');
  expect(await nextMessage(connect(example, '/demo', { origin: FRIEND }))).toBe('welcome, page of a friend');
  const headers = { cookie: await signIn(example, 'bob') };
  expect(await nextMessage(connect(example, '/demo', { origin: FRIEND, headers }))).toBe('welcome, bob');
});

test('origin-or-permission takes a foreign origin from users with permission only', async () => {
  const example = await start('origin-or-permission');
  for (const origin of [STRANGER, example.origin]) {
    expect(await refusedWith(connect(example, '/demo', { origin }))).toBe(403);
    const bob = { cookie: await signIn(example, 'bob') };
    expect(await refusedWith(connect(example, '/demo', { origin, headers: bob }))).toBe(403);
    const ann = { cookie: await signIn(example, 'ann') };
    expect(await nextMessage(connect(example, '/demo', { origin, headers: ann }))).toBe('welcome, ann');
  }
});

test('origin-or-permission signs in nobody it does not know', async () => {
  const example = await start('origin-or-permission');
  for (const name of ['eve', 'constructor']) {
    const response = await fetch(example.url('/sign-in'), { method: 'POST', body: new URLSearchParams({ name }) });
    expect(response.status).toBe(403);
  }
});
