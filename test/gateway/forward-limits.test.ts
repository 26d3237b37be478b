import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { closing } from '../services/closing.ts';
import { type GatewayOptions, TestGateway } from './gateway-server.ts';
import { settled } from './settled.ts';

const open = closing();

/** Notes what arrives, and takes it unless `handler` does something else. */
class Backend {
  readonly server = http.createServer();
  readonly requests: http.IncomingMessage[] = [];
  bytes = 0;
  aborted = 0;
  #wake: (() => void)[] = [];

  constructor(handler: http.RequestListener = (request, response) => request.on('end', () => response.end('ok'))) {
    const onRequest = (request: http.IncomingMessage, response: http.ServerResponse) => {
      this.requests.push(request);
      request.on('data', chunk => {
        this.bytes += chunk.length;
        this.#notify();
      });
      request.on('error', () => {
        this.aborted++;
        this.#notify();
      });
      handler(request, response);
      this.#notify();
    };
    this.server.on('request', onRequest);
    this.server.on('checkContinue', onRequest);
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>(resolve => this.#wake.push(resolve));
  }

  #notify(): void {
    for (const resolve of this.#wake.splice(0)) resolve();
  }
}

async function serve(backend: Backend, options: GatewayOptions = {}): Promise<TestGateway> {
  const { server } = backend;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push({
    close: () => {
      server.closeAllConnections();
      return new Promise(resolve => server.close(resolve));
    },
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const gateway = await new TestGateway([url], options).listen();
  open.push(gateway);
  return gateway;
}

function connect(to: TestGateway, head: string): net.Socket {
  const socket = net.connect(to.port, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(`${head}\r\nHost: a\r\n\r\n`);
  return socket;
}

const CHUNKED = 'POST / HTTP/1.1\r\nTransfer-Encoding: chunked';

function chunk(data: string): string {
  return `${Buffer.byteLength(data).toString(16)}\r\n${data}\r\n`;
}

describe('a request body', () => {
  test('that is announced larger than it may be is refused before the backend hears of it', async () => {
    const backend = new Backend();
    const to = await serve(backend, { maxBodySize: 10 });
    const answer = await text(connect(to, 'POST / HTTP/1.1\r\nContent-Length: 11'));
    expect(answer).toMatch(/^HTTP\/1\.1 413 [\s\S]*Connection: close\r\n[\s\S]*Payload Too Large\n$/);
    expect(await to.outcome()).toMatchObject({ status: 413, code: 'ERR_HTTP_BODY_TOO_LARGE' });
    expect(backend.requests).toEqual([]);
  });

  test('that waits for a 100 and is too large is not asked for', async () => {
    const to = await serve(new Backend(), { maxBodySize: 10 });
    const answer = await text(connect(to, 'POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 11'));
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
  });

  test('that turns out larger on its way is refused, and the backend sees that it is not complete', async () => {
    const backend = new Backend();
    const to = await serve(backend, { maxBodySize: 10 });
    const socket = connect(to, CHUNKED);
    socket.write(chunk('1234567890'));
    await backend.until(() => backend.bytes === 10);
    socket.write(`${chunk('1')}0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n`);
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 413 [\s\S]*\r\n\r\nPayload Too Large\n$/);
    expect(await to.outcome()).toMatchObject({ status: 413, code: 'ERR_HTTP_BODY_TOO_LARGE' });
    await backend.until(() => backend.aborted === 1);
    expect(backend.requests.length).toBe(1);
    // It was the client's doing.
    expect(to.upstream.status.servers[0]).toMatchObject({ failures: 0, active: 0 });
  });

  test.each([
    [10, 10],
    [-1, 3_000_000],
  ])('with a limit of %d may have %d bytes', async (maxBodySize, length) => {
    const backend = new Backend();
    const to = await serve(backend, { maxBodySize });
    const request = http.request({ port: to.port, agent: false, method: 'POST' });
    request.end(Buffer.alloc(length));
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    expect([response.statusCode, await text(response), backend.bytes]).toEqual([200, 'ok', length]);
  });
});

describe('a client that stops sending its body', () => {
  test('is answered with 408 after its time, which every byte begins anew; the backend connection is cut', async () => {
    const clock = new FakeClock();
    const backend = new Backend();
    const to = await serve(backend, { clock, clientTimeout: '60s' });
    const socket = connect(to, CHUNKED);
    for (let bytes = 1; bytes <= 3; bytes++) {
      socket.write(chunk('x'));
      await backend.until(() => backend.bytes === bytes);
      await clock.advance(59_000);
    }
    expect(to.outcomes).toEqual([]);
    // Clients are looked at once a second.
    await clock.advance(2_000);
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 408 [\s\S]*Connection: close\r\n[\s\S]*\r\n\r\nRequest Timeout\n$/);
    expect(await to.outcome()).toMatchObject({ status: 408, code: 'ERR_HTTP_BODY_TIMEOUT' });
    await backend.until(() => backend.aborted === 1);
    expect(to.upstream.status.servers[0]).toMatchObject({ failures: 0, active: 0 });
    expect(clock.pending).toBe(0);
  });

  test('is not to blame while it waits for a 100', async () => {
    const clock = new FakeClock();
    let goOn!: () => void;
    const backend = new Backend((request, response) => {
      goOn = () => response.writeContinue();
      request.on('end', () => response.end('ok'));
    });
    const to = await serve(backend, { clock, clientTimeout: '10s', answerTimeout: '60s' });
    const socket = connect(to, 'POST / HTTP/1.1\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2');
    await backend.until(() => backend.requests.length === 1);
    await clock.advance(30_000);
    expect(to.outcomes).toEqual([]);
    goOn();
    let received = '';
    socket.on('data', data => {
      received += data;
    });
    await once(socket, 'data');
    expect(received).toBe('HTTP/1.1 100 Continue\r\n\r\n');
    // From here on it is.
    await clock.advance(9_000);
    expect(to.outcomes).toEqual([]);
    await clock.advance(2_000);
    await once(socket, 'close');
    expect(received).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 408 /);
  });

  test('is not to blame while the backend does not take it', async () => {
    const clock = new FakeClock();
    let upload!: http.IncomingMessage;
    const backend = new Backend(request => {
      upload = request;
      request.pause();
    });
    const to = await serve(backend, { clock, clientTimeout: '10s', answerTimeout: -1 });
    const total = 32 * 1024 * 1024;
    let sent = 0;
    const source = new Readable({
      read() {
        sent += 65_536;
        this.push(sent > total ? null : Buffer.alloc(65_536));
      },
    });
    const request = http.request({ port: to.port, agent: false, method: 'POST', headers: { 'Content-Length': total } });
    request.on('error', () => {});
    source.pipe(request);
    await backend.until(() => backend.requests.length === 1);
    await settled(() => sent);
    expect(sent).toBeLessThan(total);
    for (let i = 0; i < 10; i++) await clock.advance(10_000);
    expect(to.outcomes).toEqual([]);
    upload.resume();
    await backend.until(() => backend.bytes === total);
    request.destroy();
  });

  test('after the answer has begun is cut off, and after it has ended loses its connection', async () => {
    const clock = new FakeClock();
    for (const answer of ['begun', 'ended']) {
      const backend = new Backend((_, response) => {
        if (answer === 'begun') response.write('begun');
        else response.end('ended');
      });
      const to = await serve(backend, { clock, clientTimeout: '60s' });
      const socket = connect(to, `${CHUNKED}\r\nX: y`);
      socket.write(chunk('x'));
      let received = '';
      socket.on('data', data => {
        received += data;
      });
      while (!received.includes(answer)) await once(socket, 'data');
      const closed = once(socket, 'close');
      await clock.advance(59_000);
      expect(socket.destroyed).toBe(false);
      await clock.advance(2_000);
      await closed;
    }
  });
});

describe('a client that does not read its answer', () => {
  test('is cut off after its time, and the backend stops sending', async () => {
    const clock = new FakeClock();
    let sent = 0;
    const backend = new Backend((_, response) => {
      new Readable({
        read() {
          sent += 65_536;
          this.push(Buffer.alloc(65_536));
        },
      })
        .on('error', () => {})
        .pipe(response);
      response.on('close', () => gone.resolve());
    });
    const gone = Promise.withResolvers<void>();
    const to = await serve(backend, { clock, clientTimeout: '60s' });
    const socket = connect(to, 'GET / HTTP/1.1').pause();
    await settled(() => sent);
    await clock.advance(59_000);
    expect(to.outcomes).toEqual([]);
    for (let i = 0; to.outcomes.length === 0 && i < 1_000; i++) await clock.advance(1_000);
    expect(await to.outcome()).toMatchObject({ status: 200, complete: false });
    await gone.promise;
    expect(sent).toBeLessThan(64 * 1024 * 1024);
    socket.destroy();
  });

  test('is cut off also when the backend has sent all of it', async () => {
    const clock = new FakeClock();
    // More than the sockets between us take, less than what is read ahead of the client.
    const size = 16 * 1024 * 1024;
    const backend = new Backend((_, response) => response.end(Buffer.alloc(size)));
    const to = await serve(backend, { clock, clientTimeout: '60s', answerTimeout: -1 });
    const socket = connect(to, 'GET / HTTP/1.1').pause();
    await backend.until(() => backend.requests.length === 1);
    for (let i = 0; to.outcomes.length === 0 && i < 1_000; i++) await clock.advance(60_000);
    expect(await to.outcome()).toMatchObject({ status: 200, complete: false });
    socket.destroy();
  });

  test('but reads again in time gets all of it', async () => {
    const clock = new FakeClock();
    const size = 32 * 1024 * 1024;
    const backend = new Backend((_, response) => response.end(Buffer.alloc(size)));
    const to = await serve(backend, { clock, clientTimeout: '60s' });
    const request = http.get({ port: to.port, agent: false });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    let received = 0;
    for await (const data of response) {
      received += data.length;
      // Each piece is within the time, all of them are not.
      await clock.advance(received % 10 === 0 ? 1_000 : 500);
    }
    expect(received).toBe(size);
    expect(await to.outcome()).toMatchObject({ status: 200, complete: true });
    expect(clock.pending).toBe(0);
  });
});
