import { expect, test } from 'vitest';
import { ask, connect, refusedWith, start } from './example-client.ts';

const ORIGIN = 'http://www.example.com:7001';

test('verified-origin takes pages of one origin', async () => {
  const example = await start('verified-origin');
  for (const path of ['/demo', '/listed']) {
    expect(await ask(connect(example, path, { origin: ORIGIN }), 'hi')).toBe('hi');
    for (const origin of [example.origin, 'http://www.example.com', 'https://www.example.com:7001', `${ORIGIN}.evil`])
      expect([origin, await refusedWith(connect(example, path, { origin }))]).toEqual([origin, 403]);
  }
});

test('verified-origin: without an origin the list takes who brings no cookie, and accept nobody', async () => {
  const example = await start('verified-origin');
  const anonymous = { origin: undefined as never };
  const withCookie = { ...anonymous, headers: { cookie: 'a=b' } };
  expect(await ask(connect(example, '/listed', anonymous), 'hi')).toBe('hi');
  expect(await refusedWith(connect(example, '/listed', withCookie))).toBe(403);
  expect(await refusedWith(connect(example, '/demo', anonymous))).toBe(403);
});
