import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { freePort } from './free-port.ts';
import { until } from './until.ts';

/** Found under one of these names; Valkey does as well. */
const program = ['redis-server', 'valkey-server'].find(name => spawnSync(name, ['--version']).status === 0);

/** Why tests that need Redis are skipped here; undefined when they are not. */
export const redisIsMissing = program ? undefined : 'redis-server is not installed';
if (redisIsMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(redisIsMissing);

/** Servers of tests that end without stopping them. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export interface RedisServer extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly pid: number;
  /** One command by `redis-cli`; its answer as text. */
  cli(...args: string[]): Promise<string>;
  /** Sends a signal to the process; `SIGSTOP` leaves its connections open and silent. */
  signal(signal: NodeJS.Signals): void;
  /** Ends it with `kill -9`. */
  kill(): Promise<void>;
  /** Starts it again on the same port, with the data it has on disk. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** A replica that asks is not kept waiting for others to ask as well. */
const AT_ONCE = { 'repl-diskless-sync-delay': '0' };

/**
 * Starts a server on a free port with its files in a folder of its own. Without `settings` it keeps nothing on disk.
 */
export async function startRedis(settings: Readonly<Record<string, string>> = {}): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-redis-'));
  const port = await freePort();
  const all = { bind: '127.0.0.1', port: String(port), dir: folder, save: '', ...AT_ONCE, ...settings };
  const args = Object.entries(all).flatMap(([name, value]) => [`--${name}`, value]);
  let child: ChildProcess;
  const run = async () => {
    child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    child.once('exit', () => running.delete(child));
    const output = text(child.stdout!);
    const exited = once(child, 'exit');
    child.stderr!.resume();
    const stopped = exited.then(async () => {
      throw new Error(`redis-server has ended:\n${await output}`);
    });
    await Promise.race([answers(port), stopped]);
    stopped.catch(() => {});
  };
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  };
  await run();
  const server: RedisServer = {
    port,
    url: `redis://127.0.0.1:${port}`,
    get pid() {
      return child.pid!;
    },
    cli: (...command) => redisCli('-p', String(port), ...command),
    signal: signal => void child.kill(signal),
    kill: () => end('SIGKILL'),
    restart: run,
    async stop() {
      await end('SIGKILL');
      // A process that it has forked may still write for a moment.
      await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
  return server;
}

/** Starts a replica that has caught up with the master. */
export async function startReplica(master: RedisServer): Promise<RedisServer> {
  const replica = await startRedis({ replicaof: `127.0.0.1 ${master.port}` });
  await until(async () => /master_link_status:up/.test(await replica.cli('INFO', 'replication')));
  return replica;
}

export interface RedisSentinels extends AsyncDisposable {
  readonly ports: readonly number[];
  /** Their addresses as one, for the master called `shop`. */
  readonly url: string;
  /** One command by `redis-cli` to the Sentinel of that number. */
  cli(sentinel: number, ...args: string[]): Promise<string>;
  /** Sends a signal to the Sentinel of that number. */
  signal(sentinel: number, signal: NodeJS.Signals): void;
  /** Where they say that the master is. */
  master(): Promise<number>;
  stop(): Promise<void>;
}

/** Starts Sentinels that watch this master, and know its replicas. They need half a second to miss it. */
export async function startSentinels(
  master: Pick<RedisServer, 'port'>,
  { count = 3, replicas = 1, lines = [] as readonly string[], password = '' } = {},
): Promise<RedisSentinels> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-sentinel-'));
  const children: ChildProcess[] = [];
  const ports: number[] = [];
  const auth = password === '' ? [] : ['-a', password, '--no-auth-warning'];
  const sentinels: RedisSentinels = {
    ports,
    get url() {
      return `redis+sentinel://${ports.map(port => `127.0.0.1:${port}`).join(',')}/shop`;
    },
    cli: (sentinel, ...args) => redisCli('-p', String(ports[sentinel]), ...auth, ...args),
    signal: (sentinel, signal) => void children[sentinel]!.kill(signal),
    master: async () => Number((await sentinels.cli(0, 'SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'shop')).split('\n')[1]),
    async stop() {
      for (const child of children) child.kill('SIGKILL');
      await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    },
    [Symbol.asyncDispose]: () => sentinels.stop(),
  };
  const own = [
    `sentinel monitor shop 127.0.0.1 ${master.port} ${Math.floor(count / 2) + 1}`,
    'sentinel down-after-milliseconds shop 500',
    'sentinel failover-timeout shop 3000',
  ];
  for (let index = 0; index < count; index++) {
    const port = await freePort();
    const file = join(folder, `${index}.conf`);
    await writeFile(file, [`port ${port}`, 'bind 127.0.0.1', `dir ${folder}`, ...own, ...lines, ''].join('\n'));
    const child = spawn(program!, [file, '--sentinel'], { stdio: 'ignore' });
    running.add(child);
    child.once('exit', () => running.delete(child));
    children.push(child);
    ports.push(port);
  }
  try {
    for (let index = 0; index < count; index++) {
      // Where it can be said: how often it asks the servers what they are (10 s otherwise), and tells the others (2 s).
      const often = ['SENTINEL', 'DEBUG', 'info-period', '500', 'publish-period', '500'];
      await until(() =>
        sentinels.cli(index, ...often).then(
          () => true,
          () => false,
        ),
      );
      await until(async () => {
        const known = await sentinels.cli(index, 'SENTINEL', 'MASTER', 'shop').catch(() => '');
        const of = (name: string) => Number(new RegExp(`^${name}\\n(\\d+)`, 'm').exec(known)?.[1]);
        return of('num-other-sentinels') === count - 1 && of('num-slaves') >= replicas;
      });
    }
    return sentinels;
  } catch (error) {
    await sentinels.stop();
    throw error;
  }
}

export interface RedisCluster extends AsyncDisposable {
  readonly nodes: readonly RedisServer[];
  readonly urls: string[];
  stop(): Promise<void>;
}

/** Starts a cluster of masters, each with as many replicas. Takes some seconds. */
export async function startCluster(masters = 3, replicasPerMaster = 0): Promise<RedisCluster> {
  const settings = {
    'cluster-enabled': 'yes',
    'cluster-node-timeout': '1000',
    'cluster-allow-replica-migration': 'no',
    'cluster-require-full-coverage': 'no',
  };
  const count = masters * (1 + replicasPerMaster);
  const nodes = await Promise.all(Array.from({ length: count }, () => startRedis(settings)));
  const cluster: RedisCluster = {
    nodes,
    urls: nodes.map(({ url }) => url),
    stop: async () => void (await Promise.all(nodes.map(node => node.stop()))),
    [Symbol.asyncDispose]: () => cluster.stop(),
  };
  try {
    await form(nodes, masters, replicasPerMaster);
    return cluster;
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

async function form(nodes: readonly RedisServer[], masters: number, replicasPerMaster: number): Promise<void> {
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`);
  await redisCli('--cluster', 'create', ...addresses, '--cluster-replicas', String(replicasPerMaster), '--cluster-yes');
  for (const node of nodes) {
    await until(async () => {
      const slots = (await node.cli('CLUSTER', 'NODES')).trim().split('\n');
      const isReady = /cluster_state:ok/.test(await node.cli('CLUSTER', 'INFO')) && slots.length === nodes.length;
      const replicas = slots.filter(line => /\bslave\b/.test(line)).length;
      return isReady && replicas === nodes.length - masters && !/master_link_status:down/.test(await node.cli('INFO'));
    });
  }
}

async function redisCli(...args: string[]): Promise<string> {
  return (await promisify(execFile)(program!.replace('server', 'cli'), args)).stdout;
}

async function answers(port: number): Promise<void> {
  await until(async () => {
    const socket = connect(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      socket.write('PING\r\n');
      const [data] = await once(socket, 'data');
      return /^\+PONG/.test(String(data));
    } catch {
      return false;
    } finally {
      socket.destroy();
    }
  });
}
