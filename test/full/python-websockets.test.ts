import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { createServer, defineEndpoint } from '../../src/index.ts';

const PYTHON = '/usr/bin/python3';
const SCRIPT = fileURLToPath(new URL('websockets_echo.py', import.meta.url));

function absent(): string | undefined {
  try {
    execFileSync(PYTHON, ['-c', 'import websockets'], { stdio: 'ignore' });
    return undefined;
  } catch (error) {
    const reason = `${PYTHON} has no module "websockets"`;
    if (process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(reason, { cause: error });
    return reason;
  }
}

/** The echo server of the script, in a process of its own, and what it says. */
async function startBackend() {
  const child = spawn(PYTHON, [SCRIPT, 'serve'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const closes: unknown[] = [];
  const lines = createInterface(child.stdout);
  const [port] = await once(lines, 'line');
  lines.on('line', line => closes.push(JSON.parse(line)));
  return {
    url: `http://127.0.0.1:${port}`,
    closes,
    async [Symbol.asyncDispose]() {
      const exited = once(child, 'exit');
      child.stdin.end();
      child.kill();
      await exited;
    },
  };
}

/** What the client of the script has seen. */
async function ask(url: string, compression: 'deflate' | ''): Promise<Record<string, unknown>> {
  const { stdout } = await promisify(execFile)(PYTHON, [SCRIPT, 'ask', url.replace('http', 'ws'), compression]);
  return JSON.parse(stdout);
}

const reason = absent();
describe.skipIf(reason)(reason ?? 'the websockets of Python', () => {
  const compressions = [
    ['with compression', 'deflate', ['permessage-deflate']],
    ['without compression', '', []],
  ] as const;

  test.each(compressions)('as client and as backend, through the relay, %s', async (_, compression, extensions) => {
    await using backend = await startBackend();
    await using server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      upstreams: { app: { servers: [backend.url] } },
      routes: [{ path: '/socket', upstream: 'app' }],
      log: { level: 'silent' },
    });
    await server.start();
    const url = server.urls[0]!.replace(/\/$/, '');
    const seen = await ask(url, compression);
    expect(seen).toMatchObject({
      subprotocol: 'chat.v1',
      extensions,
      ours: 4001,
      theirs: [4002, 'enough'],
      refused: 404,
    });
    expect(seen.headers).toMatchObject({ 'x-forwarded-for': '127.0.0.1', origin: url });
    // Neither side was cut: what the client said has arrived, with its reason.
    await expect
      .poll(() => backend.closes)
      .toEqual([
        [4001, 'bye'],
        [4002, 'enough'],
      ]);
  });

  test.each(compressions)('as client of an endpoint of ours, %s', async (_, compression, extensions) => {
    const closes: unknown[] = [];
    const echo = defineEndpoint({
      path: '/socket',
      subprotocols: ['chat.v1'],
      compression: true,
      onMessage(connection, data) {
        if (data === 'headers') connection.send('{}');
        else if (data === 'close') connection.close(4002, 'enough');
        else connection.send(data);
      },
      onClose: (_connection, { code, reason }) => void closes.push([code, reason]),
    });
    await using server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      routes: [{ endpoint: echo }],
      log: { level: 'silent' },
    });
    await server.start();
    const seen = await ask(server.urls[0]!.replace(/\/$/, ''), compression);
    expect(seen).toMatchObject({
      subprotocol: 'chat.v1',
      extensions,
      ours: 4001,
      theirs: [4002, 'enough'],
      refused: 404,
    });
    await expect
      .poll(() => closes)
      .toEqual([
        [4001, 'bye'],
        [4002, 'enough'],
      ]);
  });
});
