import type { Server } from '../program.ts';
import { startProxy } from './proxy-program.ts';

/** What a proxy is started for. */
export interface ProxyOptions {
  /** Where the backend listens, on 127.0.0.1. */
  backendPort: number;
  /** Connections it must carry. */
  connections: number;
  /** As in `Effort`. */
  checkout?: string | undefined;
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
