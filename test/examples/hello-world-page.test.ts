import { expect, test } from 'vitest';
import { ask, connect, refusedWith, start } from './example-client.ts';

const MOUNT = '/websocket-helloworld-wls';

test('hello-world-page serves the page under its prefix, and leads there', async () => {
  const example = await start('hello-world-page');
  const response = await fetch(example.origin, { redirect: 'follow' });
  expect(response.status).toBe(200);
  expect(response.url).toBe(example.url(`${MOUNT}/`));
  expect(response.headers.get('content-type')).toMatch(/^text\/html/);
  expect(await response.text()).toContain('id="short_msg"');
});

test('hello-world-page serves an endpoint that nothing registers, under the prefix only', async () => {
  const example = await start('hello-world-page');
  const answer = await ask(connect(example, `${MOUNT}/helloworld_delay.ws`), 'ann');
  expect(answer).toBe('Message "ann" has been received by server.');
  expect(await refusedWith(connect(example, '/helloworld_delay.ws'))).toBe(404);
});
