import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const MIB = 1024 * 1024;
const SIZE = 500 * MIB;

/** A gateway in a process of its own, whose memory is looked at all the time. */
async function startGateway(backend: string) {
  const path = fileURLToPath(new URL('relay-server.ts', import.meta.url));
  const child = spawn(process.execPath, ['--expose-gc', '-C', 'holdfast-source', path, backend], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = await once(child.stdout!, 'data');
  const residentBytes = () =>
    Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/status`, 'latin1'))![1]) * 1024;
  let most = 0;
  const timer = setInterval(() => {
    most = Math.max(most, residentBytes());
  }, 20);
  return {
    port: Number(line),
    residentBytes,
    /** Since the last call. */
    takeMost: () => {
      const taken = Math.max(most, residentBytes());
      most = 0;
      return taken;
    },
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      child.stdin!.end();
      await once(child, 'exit');
    },
  };
}

function zeros(size: number): Readable {
  let left = size;
  return new Readable({
    read() {
      const length = Math.min(left, 64 * 1024);
      left -= length;
      this.push(length === 0 ? null : Buffer.alloc(length));
    },
  });
}

/** Reads to the end, slowly at first: what comes meanwhile must wait where it is. */
async function count(body: Readable): Promise<number> {
  await wait(2_000);
  let bytes = 0;
  for await (const chunk of body) bytes += (chunk as Buffer).length;
  return bytes;
}

test('bodies of 500 MiB pass both ways, also past readers that are slow to begin, and the gateway hardly grows', async () => {
  const backend = http.createServer(async (request, response) => {
    if (request.method === 'GET') zeros(SIZE).pipe(response.writeHead(200, { 'Content-Length': SIZE }));
    else response.end(String(await count(request)));
  });
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  await using gateway = await startGateway(`http://127.0.0.1:${(backend.address() as AddressInfo).port}`);
  const ask = async (method: string, body?: Readable) => {
    const request = http.request({ port: gateway.port, host: '127.0.0.1', agent: false, method });
    if (body) body.pipe(request);
    else request.end();
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    return response;
  };
  try {
    // What the process takes to work at all.
    await (await ask('HEAD')).resume();
    const before = gateway.residentBytes();
    gateway.takeMost();

    expect(await count(await ask('GET'))).toBe(SIZE);
    const down = gateway.takeMost() - before;
    const answer = await ask('POST', zeros(SIZE));
    let received = '';
    for await (const chunk of answer) received += chunk;
    expect(received).toBe(String(SIZE));
    const up = gateway.takeMost() - before;
    console.log(`500 MiB: ${Math.round(down / MIB)} MiB down, ${Math.round(up / MIB)} MiB up`);
    // A few buffers, and what the garbage collector leaves lying.
    expect(down).toBeLessThan(200 * MIB);
    expect(up).toBeLessThan(200 * MIB);
  } finally {
    backend.closeAllConnections();
    backend.close();
  }
});
