/** Times and sizes beyond what a timer, or a number, can count. */
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Config, createServer, defineEndpoint } from 'holdfast';
import { testClient } from 'holdfast/testing';
import { expect, test } from 'vitest';

async function backendThat(answers: (path: string) => number) {
  const server = createHttpServer((request, response) => {
    setTimeout(() => response.end('late'), answers(request.url!));
  }).listen(0, '127.0.0.1');
  await new Promise(resolve => server.once('listening', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, [Symbol.dispose]: () => void server.close().closeAllConnections() };
}

const endpoint = (time: string) =>
  defineEndpoint({
    path: '/chat',
    idleTimeout: time,
    heartbeat: time,
    closeTimeout: time,
    handlerTimeout: time,
    accept: async () => {
      await sleep(20);
      return true;
    },
    onMessage: (connection, data) => void connection.send(data),
  });

const settings = (time: string, backend: string): Config => ({
  listen: [
    { port: 0, host: '127.0.0.1' },
    { port: 0, host: '127.0.0.1', tls: 'self-signed' },
  ],
  session: { idleTimeout: time, absoluteTimeout: time, renewalTimeout: time, storeTimeout: time },
  headerTimeout: time,
  clientTimeout: time,
  keepAliveTimeout: time,
  upstreams: {
    app: {
      servers: [backend],
      connectTimeout: time,
      answerTimeout: time,
      handshakeTimeout: time,
      clientTimeout: time,
      idleConnectionTimeout: time,
      health: { path: '/health', interval: time, timeout: time },
    },
    gone: { servers: ['http://127.0.0.1:1'], ejection: { failures: 1, time, maxTime: time } },
  },
  routes: [{ endpoint: endpoint(time) }, { path: '/gone', upstream: 'gone' }, { path: '/*', upstream: 'app' }],
  log: { level: 'silent', access: 'off' },
});

// A timer of Node takes 24.8 days at most, and strikes after a millisecond when it is set for more.
test.each(['24d', '30d', '100000d'])('%s is long, and not over at once', async time => {
  const warnings: Error[] = [];
  const note = (warning: Error) => void warnings.push(warning);
  process.on('warning', note);
  const arrived = Promise.withResolvers<void>();
  let checks = 0;
  using backend = await backendThat(path => {
    if (path === '/health') checks++;
    if (path === '/last') arrived.resolve();
    return 30;
  });
  await using server = createServer(settings(time, backend.url));
  await server.start();
  const [plain, secure] = server.urls;
  expect((await fetch(`${plain}/page`)).status).toBe(200);
  expect((await fetch(`${plain}/gone`)).status).toBeGreaterThanOrEqual(502);
  for (const url of [plain, secure]) {
    const client = await testClient(`${url}/chat`, { tls: { rejectUnauthorized: false } });
    client.send('hello');
    expect(await client.receive()).toBe('hello');
    await client.close();
  }
  const answer = fetch(`${plain}/last`);
  await arrived.promise;
  const stopped = server.stop({ drain: time });
  expect((await answer).status).toBe(200);
  await stopped;
  process.off('warning', note);
  expect(warnings.map(({ stack }) => stack)).toEqual([]);
  expect(checks).toBe(1);
});

test.each<[what: string, config: Config, message: string]>([
  ['a time', { headerTimeout: 1e300 }, 'headerTimeout: 1e+300 is too long a duration'],
  ['a time as text', { headerTimeout: '999999999999999d' }, 'headerTimeout: "999999999999999d" is too long a duration'],
  ['a size', { maxBodySize: 2 ** 53 }, 'maxBodySize: 9007199254740992 is too large a size'],
  ['a size as text', { maxBodySize: '9007199254740993GiB' }, 'maxBodySize: "9007199254740993GiB" is too large a size'],
  ['a count', { session: { maxSessions: 2 ** 53 } }, 'expected a whole number from 1 to 9007199254740991'],
])('%s beyond what numbers can count is refused', (_, config, message) => {
  expect(() => createServer(config)).toThrow(message);
});
