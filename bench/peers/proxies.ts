import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PeerNotFoundError } from '../comparison.ts';
import { freePort } from '../free-port.ts';
import { Program, type Server } from '../program.ts';

/** What a proxy is started for. */
export interface ProxyOptions {
  /** Where the backend listens, on 127.0.0.1. */
  backendPort: number;
  /** Connections it must carry. */
  connections: number;
}

/** Starts a proxy in front of a WebSocket backend, in a process family of its own. */
export type StartProxy = (options: ProxyOptions) => Promise<Server>;

/** Apache with `mod_proxy_wstunnel` and the event MPM, in which each WebSocket holds a thread. */
export const startApache: StartProxy = ({ backendPort, connections }) => {
  const threads = connections + 64;
  return startProxy('apache2', ['/usr/sbin/apache2', '/usr/sbin/httpd'], (port, folder) => ({
    'apache.conf': `
ServerRoot ${folder}
ServerName localhost
PidFile ${folder}/apache.pid
Listen 127.0.0.1:${port}
${['mpm_event', 'authz_core', 'proxy', 'proxy_wstunnel'].map(name => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`).join('\n')}
${process.getuid?.() === 0 ? 'User www-data\nGroup www-data' : ''}
StartServers 1
ServerLimit 1
ThreadLimit ${threads}
ThreadsPerChild ${threads}
MaxRequestWorkers ${threads}
Timeout 3600
ErrorLog ${folder}/error.log
LogLevel error
ProxyPass / ws://127.0.0.1:${backendPort}/
`,
    arguments: ['-DFOREGROUND', '-f', `${folder}/apache.conf`],
  }));
};

/** nginx with one worker process. */
export const startNginx: StartProxy = ({ backendPort, connections }) =>
  startProxy('nginx', ['/usr/sbin/nginx', '/usr/bin/nginx'], (port, folder) => ({
    'nginx.conf': `
daemon off;
worker_processes 1;
worker_rlimit_nofile ${connections * 3 + 1024};
pid ${folder}/nginx.pid;
error_log stderr error;
events { worker_connections ${connections * 3 + 512}; }
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${folder}/${name};`).join(' ')}
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://127.0.0.1:${backendPort};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_read_timeout 1h;
    }
  }
}
`,
    arguments: ['-p', folder, '-e', 'stderr', '-c', `${folder}/nginx.conf`],
  }));

/** HAProxy as it comes: with one thread for each core. */
export const startHaproxy: StartProxy = ({ backendPort, connections }) =>
  startProxy('haproxy', ['/usr/sbin/haproxy', '/usr/bin/haproxy'], (port, folder) => ({
    'haproxy.cfg': `
global
  maxconn ${connections + 512}
defaults
  mode http
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  timeout tunnel 1h
listen relay
  bind 127.0.0.1:${port}
  server app 127.0.0.1:${backendPort}
`,
    arguments: ['-db', '-f', `${folder}/haproxy.cfg`],
  }));

async function startProxy(
  name: string,
  paths: readonly string[],
  configure: (port: number, folder: string) => { arguments: readonly string[] } & Record<string, unknown>,
): Promise<Server> {
  const path = paths.find(existsSync);
  if (path === undefined)
    throw new PeerNotFoundError(
      `${name} is not installed: on Debian, apt-get install ${name}; there is no ${paths[0]}`,
    );
  const folder = await mkdtemp(join(tmpdir(), `holdfast-bench-${name}-`));
  const port = await freePort();
  const { arguments: args, ...files } = configure(port, folder);
  for (const [file, text] of Object.entries(files)) await writeFile(join(folder, file), text as string);
  // The shell ends it when standard input ends, so that no proxy outlives its benchmark. It costs no time meanwhile.
  const script =
    'exec 3<&0; "$@" </dev/null & child=$!; cat <&3 >/dev/null; exec 2>/dev/null; kill $child; wait $child';
  const program = new Program(name, 'sh', ['-c', script, 'sh', path, ...args]);
  const server = {
    pid: program.pid,
    port,
    async collect() {},
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
  try {
    await listening(name, port);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

async function listening(name: string, port: number): Promise<void> {
  const end = performance.now() + 10_000;
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const isOpen = await new Promise<boolean>(resolve => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.destroy();
    if (isOpen) return;
    if (performance.now() > end) throw new Error(`${name} does not listen on port ${port} after 10 s`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
