import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { accepts, freePort } from './free-port.ts';
import { until } from './until.ts';

const PROGRAMS = {
  apache: '/usr/sbin/apache2',
  nginx: '/usr/sbin/nginx',
  haproxy: '/usr/sbin/haproxy',
  lighttpd: '/usr/sbin/lighttpd',
  varnish: '/usr/sbin/varnishd',
} as const;
export type ProxyName = keyof typeof PROGRAMS;

/** Why tests that need this program are skipped here; undefined when they are not. */
export function missing(name: ProxyName): string | undefined {
  const path = PROGRAMS[name];
  if (existsSync(path)) return undefined;
  const reason = `${path} is not installed`;
  if (process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(reason);
  return reason;
}

/** Proxies of tests that end without stopping them. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) kill(child);
});

export interface RunningProxy extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
}

/**
 * Starts a proxy of its own, in the foreground, with its files in a folder of its own.
 *
 * @param configure The part of the configuration that matters, for the port the proxy is to listen on at 127.0.0.1.
 * @param modules Those that Apache loads.
 */
export async function startProxy(
  name: ProxyName,
  configure: (port: number) => string,
  modules: readonly string[] = APACHE_MODULES,
): Promise<RunningProxy> {
  const folder = await mkdtemp(join(tmpdir(), `holdfast-${name}-`));
  const port = await freePort();
  const file = join(folder, 'proxy.conf');
  await writeFile(file, WHOLE[name](configure(port), port, folder, modules));
  const child = spawn(PROGRAMS[name], ARGUMENTS[name](file, folder, port), {
    stdio: ['ignore', 'pipe', 'pipe'],
    // A process group of its own: the workers of Apache and nginx end with it.
    detached: true,
  });
  running.add(child);
  const exited = once(child, 'exit').then(() => running.delete(child));
  const output = Promise.all([text(child.stdout!), text(child.stderr!)]);
  const stopped = exited.then(async () => {
    const log = await readFile(join(folder, 'error.log'), 'utf8').catch(() => '');
    throw new Error(`${name} has ended:\n${(await output).join('')}${log}`);
  });
  stopped.catch(() => {});
  await Promise.race([until(() => accepts(port)), stopped]);
  return {
    port,
    pid: child.pid!,
    async [Symbol.asyncDispose]() {
      kill(child);
      await exited;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function kill(child: ChildProcess): void {
  if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL');
}

/** What Apache's own test of a configuration says (`apachectl configtest`). */
export async function testApacheConfig(part: string, modules: readonly string[] = APACHE_MODULES): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-apache-'));
  const file = join(folder, 'proxy.conf');
  await writeFile(file, WHOLE.apache(part, await freePort(), folder, modules));
  const child = spawn(PROGRAMS.apache, ['-t', '-f', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  const said = await text(child.stderr);
  await rm(folder, { recursive: true, force: true });
  return said.replaceAll(folder, '').trim();
}

type Whole = (part: string, port: number, folder: string, modules: readonly string[]) => string;

const APACHE_MODULES = ['mpm_event', 'authz_core', 'headers', 'proxy', 'proxy_http', 'proxy_wstunnel'];

const WHOLE: Readonly<Record<ProxyName, Whole>> = {
  apache: (part, port, folder, modules) => `
ServerRoot ${folder}
ServerName localhost
PidFile ${folder}/apache.pid
Listen 127.0.0.1:${port}
${modules.map(module => `LoadModule ${module}_module /usr/lib/apache2/modules/mod_${module}.so`).join('\n')}
${process.getuid?.() === 0 ? 'User www-data\nGroup www-data' : ''}
ErrorLog ${folder}/error.log
${part}
`,
  nginx: (part, _, folder) => `
daemon off;
pid ${folder}/nginx.pid;
error_log stderr error;
events { worker_connections 512; }
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(kind => `${kind}_temp_path ${folder}/${kind};`).join(' ')}
${part}
}
`,
  haproxy: part => `
defaults
  timeout connect 5s
  timeout client 1m
  timeout server 1m
${part}
`,
  lighttpd: (part, port, folder) => `
server.bind = "127.0.0.1"
server.port = ${port}
server.document-root = "${folder}"
${part}
`,
  varnish: part => part,
};

const ARGUMENTS: Readonly<Record<ProxyName, (file: string, folder: string, port: number) => string[]>> = {
  apache: file => ['-DFOREGROUND', '-f', file],
  nginx: (file, folder) => ['-p', folder, '-e', 'stderr', '-c', file],
  haproxy: file => ['-db', '-f', file],
  lighttpd: file => ['-D', '-f', file],
  // Its worker runs as one user with its folder, and needs no more memory than this.
  varnish: (file, folder, port) => [
    '-F',
    '-j',
    'none',
    '-a',
    `127.0.0.1:${port}`,
    '-f',
    file,
    '-n',
    folder,
    '-s',
    'malloc,16m',
  ],
};
