import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { Served, type Wire, wires } from '../guard/served.ts';
import { Http2Client } from '../server/http2-client.ts';
import { until } from '../services/until.ts';

const SOCKETS = 1_000;
const REQUESTS_PER_SECOND = 500;
const RELOADS = 100;
const SPAN_MS = 60_000;
/** An HTTP/2 connection takes 100 streams; some are for requests. */
const STREAMS = 60;

/** A backend that echoes messages and answers requests. */
async function startBackend() {
  const server = http.createServer((_request, response) => response.end('backend'));
  new WebSocketServer({ server }).on('connection', socket => socket.on('message', data => socket.send(String(data))));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => server.close() };
}

interface Echo {
  ask(message: string): Promise<string | undefined>;
  readonly closed: Promise<unknown>;
  close(): void;
}

async function openSocket(server: Served, wire: Wire, path: string, http2: Http2Client[]): Promise<Echo> {
  if (wire === 'http/2') {
    const client = http2.at(-1)!;
    const socket = await client.webSocket(path);
    const ask = async (message: string) => {
      socket.send(message);
      return String(await socket.receive());
    };
    return { ask, closed: socket.closed, close: () => socket.close() };
  }
  const socket = new WebSocket(server.url(wire).replace('http', 'ws') + path, { rejectUnauthorized: false });
  await once(socket, 'open');
  const ask = async (message: string) => {
    const answer = once(socket, 'message');
    socket.send(message);
    return String((await answer)[0]);
  };
  return { ask, closed: once(socket, 'close'), close: () => socket.close() };
}

/** Requests over one wire, at a rate, until `stop`. */
function load(server: Served, wire: Wire, perSecond: number, http2: Http2Client) {
  const { Agent, request } = wire === 'http/1' ? http : https;
  const agent = new Agent({ keepAlive: true, maxSockets: 20 });
  const failures: string[] = [];
  let [sent, answered] = [0, 0];
  const paths = ['/page', '/backend'];
  const ask = async (path: string) => {
    if (wire === 'http/2') {
      const { status, body } = await http2.get(path);
      return `${status} ${body}`;
    }
    const asked = request(`${server.url(wire)}${path}`, { agent, ...({ rejectUnauthorized: false } as object) }).end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    let body = '';
    for await (const part of response) body += part;
    return `${response.statusCode} ${body}`;
  };
  const timer = setInterval(() => {
    for (let i = 0; i < perSecond / 20; i++) {
      const path = paths[sent++ % 2]!;
      ask(path).then(
        answer => {
          answered++;
          if (!/^200 (?:page|backend)$/.test(answer)) failures.push(answer);
        },
        (error: Error) => {
          answered++;
          failures.push(error.message);
        },
      );
    }
  }, 50);
  return {
    failures,
    get sent() {
      return sent;
    },
    async stop() {
      clearInterval(timer);
      await until(() => answered === sent);
      agent.destroy();
    },
  };
}

test('100 reloads in a minute under 1,000 WebSockets and 500 requests a second drop and fail nothing, and leave nothing', async () => {
  const backend = await startBackend();
  await using server = await Served.module(
    `
      import { readFileSync } from 'node:fs';
      const echo = defineEndpoint({ path: '/echo', origins: 'any', onMessage: (connection, data) => connection.send(data) });
      const page = () => new Response('page');
      export default defineConfig({
        listen,
        session: { store: 'memory:' },
        upstreams: { app: { servers: ['${backend.url}'] } },
        routes: [
          { endpoint: echo },
          { path: '/relay', upstream: 'app' },
          { path: '/backend', upstream: 'app', session: 'none' },
          { path: '/page', session: 'none', fetch: page },
        ],
        log: { access: 'off' },
      });
    `,
    // Else the heap grows as it likes for a minute, whatever is in it.
    { env: { NODE_OPTIONS: '--max-old-space-size=96' } },
  );
  // What a reload changes: another file, so that the module with the endpoint stays what it is.
  const config = join(server.folder, 'holdfast.config.ts');
  const main = readFileSync(config, 'utf8');
  writeFileSync(join(server.folder, 'base.ts'), main.replaceAll("'localhost.", `'${server.folder}/localhost.`));
  const version = (number: number) => `
    import base from './base.ts';
    export default { ...base,
      session: { ...base.session, idleTimeout: ${number} * 1000 + 600000 },
      upstreams: { app: { ...base.upstreams.app, answerTimeout: ${30_000 + number} } },
      routes: [...base.routes, { path: '/version', redirect: '/${number}' }, { path: '/only-${number}', redirect: '/' }],
      policy: { limits: { requestsPerAddress: '${1_000_000 + number}/s' } },
      trustedProxies: ['192.0.2.${number % 200}'],
    };
  `;
  const versionOf = async () => {
    const answer = await fetch(`${server.url('http/1')}/version`, { redirect: 'manual' });
    return answer.headers.get('location');
  };
  const reload = async (number: number) => {
    writeFileSync(config, version(number));
    server.program.kill('SIGHUP');
    await until(async () => (await versionOf()) === `/${number}`);
  };
  await reload(0);

  const clients: Http2Client[] = [];
  const sockets: Echo[] = [];
  let closedEarly = 0;
  for (let i = 0; i < SOCKETS; i++) {
    const wire = wires[i % 3]!;
    if (wire === 'http/2' && (clients.length === 0 || (i / 3) % STREAMS < 1))
      clients.push(await Http2Client.connect(server.url(wire)));
    const socket = await openSocket(server, wire, i % 2 === 0 ? '/echo' : '/relay', clients);
    sockets.push(socket);
    socket.closed.then(() => closedEarly++).catch(() => closedEarly++);
  }
  const requestClient = await Http2Client.connect(server.url('http/2'));
  const loads = wires.map(wire => load(server, wire, REQUESTS_PER_SECOND / 3, requestClient));

  const seen: { bytes: number; descriptors: number }[] = [];
  const begun = performance.now();
  for (let number = 1; number <= RELOADS; number++) {
    await reload(number);
    if (number % 20 === 0) seen.push({ bytes: server.residentBytes(), descriptors: server.descriptors().length });
    await pause(Math.max(0, begun + (number * SPAN_MS) / RELOADS - performance.now()));
  }
  const tookMs = performance.now() - begun;
  await Promise.all(loads.map(one => one.stop()));

  expect(tookMs).toBeLessThan(SPAN_MS * 1.25);
  expect(loads.flatMap(({ failures }) => failures)).toEqual([]);
  expect(loads.reduce((sum, { sent }) => sum + sent, 0)).toBeGreaterThan((REQUESTS_PER_SECOND * SPAN_MS) / 1_000 / 2);
  expect(closedEarly).toBe(0);
  const answers = await Promise.all(sockets.map((socket, i) => socket.ask(`message ${i}`)));
  expect(answers.filter((answer, i) => answer !== `message ${i}`)).toEqual([]);

  const [early, late] = [seen[1]!, seen.at(-1)!];
  console.log(
    `resident ${seen.map(({ bytes }) => Math.round(bytes / 2 ** 20)).join(', ')} MiB; descriptors ${seen.map(({ descriptors }) => descriptors).join(', ')}; ${Math.round(tookMs)} ms`,
  );
  expect(late.bytes / early.bytes).toBeLessThan(1.25);
  expect(Math.abs(late.descriptors - early.descriptors)).toBeLessThan(40);
  for (const socket of sockets) socket.close();
  for (const client of [...clients, requestClient]) client[Symbol.dispose]();
  backend.close();
}, 240_000);
