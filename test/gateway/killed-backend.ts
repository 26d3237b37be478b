import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createServer } from 'holdfast';
import { expect } from 'vitest';
import { WebSocket } from 'ws';
import { silentLogger } from '../../src/base/logger.ts';
import { until } from '../services/until.ts';

/** Opened at the same time. */
const BATCH = 50;

interface Backend {
  readonly url: string;
  readonly child: ChildProcess;
}

async function startBackend(): Promise<Backend> {
  const child = fork(new URL('echo-backend.ts', import.meta.url), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const [port] = await once(child, 'message');
  return { url: `http://127.0.0.1:${port}`, child };
}

const descriptors = () => readdirSync('/proc/self/fd').length;

async function openSockets(url: string, count: number): Promise<WebSocket[]> {
  const clients: WebSocket[] = [];
  while (clients.length < count) {
    const batch = Array.from({ length: Math.min(BATCH, count - clients.length) }, () => {
      const client = new WebSocket(url, { perMessageDeflate: false });
      client.on('error', () => {});
      return client;
    });
    await Promise.all(batch.map(client => once(client, 'open')));
    clients.push(...batch);
  }
  return clients;
}

/** What the backend says: its process id, and the message. */
async function echo(client: WebSocket, message: string): Promise<[pid: number, message: string]> {
  client.send(message);
  const [pid, text] = String((await once(client, 'message'))[0]).split(' ');
  return [Number(pid), text!];
}

/** Two backends under so many WebSockets, of which one is killed with signal 9: what happens to everybody. */
export async function killOneOfTwo(count: number): Promise<void> {
  const backends = [await startBackend(), await startBackend()];
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      upstreams: { app: { servers: backends.map(({ url }) => url) } },
      routes: [{ path: '/*', upstream: 'app', policy: { origins: 'any' } }],
      log: { access: 'off' },
    },
    { logger: silentLogger },
  );
  await server.start();
  try {
    const url = server.urls[0]!;
    await fetch(url).then(response => response.text());
    const before = descriptors();
    const clients = await openSockets(url.replace('http', 'ws'), count);
    const answers = await Promise.all(clients.map(client => echo(client, 'before')));
    const [doomed, survivor] = backends.map(({ child }) => child.pid!);
    const of = (pid: number) => clients.filter((_, i) => answers[i]![0] === pid);
    expect(Math.abs(of(doomed!).length - count / 2)).toBeLessThanOrEqual(1);

    const codes = Promise.all(of(doomed!).map(async client => (await once(client, 'close'))[0]));
    const unharmed = of(survivor!);
    let lost = 0;
    for (const client of unharmed) client.on('close', () => lost++);
    backends[0]!.child.kill('SIGKILL');

    // Every socket of the dead one is told, and may come again.
    expect(new Set(await codes)).toEqual(new Set([1014]));
    const again = await openSockets(url.replace('http', 'ws'), count - unharmed.length);
    const places = await Promise.all([...unharmed, ...again].map(client => echo(client, 'after')));
    expect(new Set(places.map(String))).toEqual(new Set([`${survivor},after`]));
    expect(lost).toBe(0);
    expect(await (await fetch(url)).text()).toBe(String(survivor));

    const { status } = server.upstreams.get('app')!;
    expect(status.servers).toMatchObject([
      { state: 'ejected', sockets: 0, active: 0 },
      { state: 'in-service', sockets: count, active: count },
    ]);
    for (const client of [...unharmed, ...again]) client.close();
    await until(() => server.upstreams.get('app')!.status.servers[1]!.active === 0);
    // The connections that fetch and the gateway keep for later, and the channel to the dead process.
    await until(() => descriptors() - before <= 4);
  } finally {
    await server.stop({ drain: 0 });
    for (const { child } of backends) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
    }
  }
}
