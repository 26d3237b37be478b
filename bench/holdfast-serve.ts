import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { PeerNotFoundError } from './comparison.ts';
import { freePort } from './free-port.ts';
import { pathOf, startProcess } from './program.ts';

const READY_MS = 30_000;

/** One of the processes that share the work. */
export interface Worker {
  readonly worker: number;
  readonly pid: number;
}

/** `holdfast serve`, from source: a gateway to a backend, with its supervisor and workers where there are several. */
export interface ServedGateway extends AsyncDisposable {
  readonly port: number;
  /** Of the program; its workers are its children. */
  readonly pid: number;
  /** Empty where one process does it all. */
  workers(): Promise<readonly Worker[]>;
  /** Requests that were taken to the backend so far, by worker. */
  requests(): Promise<ReadonlyMap<number, number>>;
}

interface Status {
  readonly isReady: boolean;
  readonly workers: readonly Worker[];
}

interface Upstreams {
  readonly upstreams: readonly {
    readonly servers: readonly { readonly worker?: number; readonly requests: number }[];
  }[];
}

/**
 * @param checkout As in `Effort`.
 * @throws {PeerNotFoundError} when the checkout does not know `workers`.
 */
export async function startGateway(backendPort: number, workers: number, checkout?: string): Promise<ServedGateway> {
  await using parts = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-bench-serve-'));
  parts.defer(() => rm(folder, { recursive: true, force: true }));
  const port = await freePort();
  const file = join(folder, 'holdfast.json');
  const config = {
    ...{ listen: [{ port, host: '127.0.0.1' }], session: false, dataFolder: folder, drain: { timeout: '1s' } },
    // Connections wait for their turns.
    ...{ headerTimeout: '10m', keepAliveTimeout: '10m' },
    ...(workers > 1 && { workers }),
    upstreams: { app: { servers: [`http://127.0.0.1:${backendPort}`] } },
    routes: [{ path: '/*', upstream: 'app' }],
    log: { level: 'warn', access: 'off' },
  };
  await writeFile(file, JSON.stringify(config));
  const program = checkout === undefined ? pathOf('../bin/holdfast.js') : join(checkout, 'bin/holdfast.js');
  const args = ['-C', 'holdfast-source', program, 'serve', '--config', file, '--no-watch'];
  const running = parts.use(startProcess(process.execPath, args));
  const ask = <Answer>(path: string) => asked<Answer>(join(folder, 'admin.sock'), path);

  const deadline = performance.now() + READY_MS;
  for (;;) {
    const status = await ask<Status>('/v1/status').catch(() => undefined);
    if (status?.isReady && status.workers.length === (workers > 1 ? workers : 0)) break;
    if (running.end !== undefined) {
      if (/unknown key "workers"/.test(running.errors)) throw new PeerNotFoundError('"workers" is not known yet');
      throw new Error(`holdfast serve ended with ${running.end} before it was ready: ${running.errors}`);
    }
    if (performance.now() > deadline) throw new Error(`holdfast serve was not ready within ${READY_MS} ms`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }

  const all = parts.move();
  return {
    ...{ port, pid: running.pid },
    async workers() {
      return (await ask<Status>('/v1/status')).workers;
    },
    async requests() {
      const { upstreams } = await ask<Upstreams>('/v1/upstreams');
      return new Map(upstreams[0]!.servers.map(({ worker = 0, requests }) => [worker, requests]));
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

function asked<Answer>(socketPath: string, path: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    get({ socketPath, path, headers: { Host: 'localhost' } }, response => {
      json(response).then(answer => resolve(answer as Answer), reject);
    }).on('error', reject);
  });
}
