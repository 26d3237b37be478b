import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server as SocketServer } from 'socket.io';
import { describe, expect, test } from 'vitest';
import { doctorOf } from '../cli/doctor-of.ts';
import { echoServer } from '../cli/doctor-servers.ts';
import { runHoldfast } from '../cli/run-holdfast.ts';
import { missing, type ProxyName, startProxy } from '../services/proxies.ts';
import { startTomcat, tomcatMissing } from '../services/tomcat.ts';
import { pythonMissing, startPython } from './doctor-python.ts';

/** All that the doctor does finds nothing, neither with messages that never end nor with whole ones. */
async function findsNothing(url: string): Promise<void> {
  for (const sendsMessages of [false, true]) {
    const { chart, said } = await doctorOf(url, { sendsMessages, idleMs: 1_500, timeoutMs: 5_000 });
    expect(chart.found, url).toEqual([]);
    expect(said('handshake')).toMatch(/^ok 101/);
    expect(said('idle')).toMatch(/^ok open after 1\.5 s/);
  }
}

/** What lets WebSockets through each. */
const PROXIES: Readonly<Partial<Record<ProxyName, (port: number, backend: number) => string>>> = {
  apache: (_, backend) => `ProxyPass / http://127.0.0.1:${backend}/ upgrade=websocket`,
  nginx: (port, backend) => `server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://127.0.0.1:${backend};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
    }
  }`,
  haproxy: (port, backend) => `
frontend web
  mode http
  bind 127.0.0.1:${port}
  default_backend app
backend app
  mode http
  server one 127.0.0.1:${backend}`,
};

describe('the doctor finds nothing wrong with', () => {
  test('ws on node:http, and the program ends with 0', async () => {
    await using server = await echoServer({ perMessageDeflate: true });
    const url = `ws://127.0.0.1:${server.port}/socket`;
    await findsNothing(url);
    const { code, stdout, stderr } = await runHoldfast(['doctor', url]);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('\nNothing wrong was found.\n');
    expect(await runHoldfast(['doctor', '-q', url])).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test.skipIf(pythonMissing).each(['websockets', 'aiohttp', 'tornado'] as const)('%s of Python', async kind => {
    await using server = await startPython(kind);
    await findsNothing(`ws://127.0.0.1:${server.port}/socket`);
  });

  test.skipIf(tomcatMissing)(tomcatMissing ?? 'the echo of the examples of Tomcat', async () => {
    await using tomcat = await startTomcat('one');
    const url = `${tomcat.url.replace('http', 'ws')}/examples/websocket/echoAnnotation`;
    const { codes, said } = await doctorOf(url, { idleMs: 1_500, timeoutMs: 5_000 });
    expect(codes).toEqual([]);
    // The type of this one takes messages in parts, of any size.
    expect(said('size')).toMatch(/^(?:ok|note) 64 KiB: /);
  });

  test('Socket.IO, spoken to as its client does', async () => {
    const server = createServer();
    const sockets = new SocketServer(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/socket.io/`;
    try {
      const { codes } = await doctorOf(`${url}?EIO=4&transport=websocket`, { idleMs: 1_500 });
      expect(codes).toEqual([]);
      const wrong = await doctorOf(url);
      expect(wrong.codes).toEqual(['refused']);
      expect(wrong.said('handshake')).toContain('it is socket.io; add ?EIO=4&transport=websocket');
    } finally {
      await sockets.close();
    }
  });

  for (const [name, configure] of Object.entries(PROXIES) as [ProxyName, (port: number, backend: number) => string][]) {
    const reason = missing(name);
    test.skipIf(reason)(`${reason ?? 'ws'} behind ${name}`, async () => {
      await using server = await echoServer();
      await using proxy = await startProxy(name, port => configure(port, server.port));
      await findsNothing(`ws://127.0.0.1:${proxy.port}/socket`);
    });
  }
});
