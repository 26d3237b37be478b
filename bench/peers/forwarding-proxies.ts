import type { Server } from '../program.ts';
import { startProxy } from './proxy-program.ts';

/** Starts a proxy in front of an HTTP backend on 127.0.0.1, in a process family of its own. */
/** @param checkout As in `Effort`. */
export type StartForwarder = (backendPort: number, checkout?: string) => Promise<Server>;

const NO_LIMIT = 1_000_000_000;

/**
 * nginx with one worker, and connections to the backend that are kept as its documentation of `keepalive` says.
 *
 * @param directives Further ones for everything that it forwards.
 */
export const startNginx = (backendPort: number, _checkout?: string, directives = ''): Promise<Server> =>
  startProxy('nginx', ['/usr/sbin/nginx', '/usr/bin/nginx'], (port, folder) => ({
    'nginx.conf': `
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests ${NO_LIMIT};
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${folder}/${name};`).join(' ')}
  upstream app {
    server 127.0.0.1:${backendPort};
    keepalive 128;
    keepalive_requests ${NO_LIMIT};
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      ${directives}
    }
  }
}
`,
    arguments: ['-p', folder, '-e', 'stderr', '-c', `${folder}/nginx.conf`],
  }));

/**
 * Apache with the event MPM and as many threads as Debian gives it, in one process: one of several that has all its
 * threads at work closes kept connections. Its `mod_proxy` keeps those to the backend by itself.
 */
export const startApache: StartForwarder = backendPort =>
  startProxy('apache2', ['/usr/sbin/apache2', '/usr/sbin/httpd'], (port, folder) => ({
    'apache.conf': `
ServerRoot ${folder}
ServerName localhost
PidFile ${folder}/apache.pid
Listen 127.0.0.1:${port}
${['mpm_event', 'authz_core', 'proxy', 'proxy_http'].map(name => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`).join('\n')}
${process.getuid?.() === 0 ? 'User www-data\nGroup www-data' : ''}
StartServers 1
ServerLimit 1
ThreadLimit 150
ThreadsPerChild 150
MaxRequestWorkers 150
MaxConnectionsPerChild 0
KeepAlive On
MaxKeepAliveRequests 0
Timeout 3600
ErrorLog ${folder}/error.log
LogLevel error
ProxyPass / http://127.0.0.1:${backendPort}/
`,
    arguments: ['-DFOREGROUND', '-f', `${folder}/apache.conf`],
  }));
