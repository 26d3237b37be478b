import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { Agent, get, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Holdfast } from '../cli/run-holdfast.ts';
import { accepts, freePort } from '../services/free-port.ts';
import { until } from '../services/until.ts';

const bin = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));
const serveArgs = ['-C', 'holdfast-source', bin, 'serve'];
const agent = new Agent({ keepAlive: true, maxSockets: 8 });

let folder: string;
let port: number;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-guard-'));
  port = await freePort();
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function configure(log: string): void {
  writeFileSync(
    join(folder, 'holdfast.yaml'),
    `listen: [{ port: ${port}, host: 127.0.0.1 }]
log: ${log}
session: false
upstreams: { gone: { servers: [http://127.0.0.1:1], ejection: false } }
routes:
  - { path: /a, redirect: /b }
  - { path: /gone/*, upstream: gone }
`,
  );
}

async function statusOf(path: string): Promise<number> {
  const request = get({ host: '127.0.0.1', port, path, agent, timeout: 15_000 });
  const [answer] = (await once(request, 'response')) as [IncomingMessage];
  answer.resume();
  await once(answer, 'end');
  return answer.statusCode!;
}

test.skipIf(spawnSync('python3', ['-c', 'import pty']).status !== 0)(
  'a terminal that is stopped delays no request, and gets what waited when it goes on',
  async () => {
    configure('{ access: json }');
    // Reads the terminal only after a line on its own stdin.
    const program = `
import os, pty, subprocess, sys, threading
master, slave = pty.openpty()
server = subprocess.Popen(sys.argv[1:], stdout=slave, stderr=slave, stdin=subprocess.DEVNULL)
os.close(slave)
print(server.pid, flush=True)
sys.stdin.readline()
try:
    while True:
        data = os.read(master, 65536)
        if not data: break
        sys.stdout.buffer.write(data); sys.stdout.flush()
except OSError: pass
sys.exit(server.wait())
`;
    const terminal = spawn('python3', ['-c', program, process.execPath, ...serveArgs], { cwd: folder });
    let shown = '';
    terminal.stdout.setEncoding('utf8').on('data', text => {
      shown += text;
    });
    try {
      await until(() => accepts(port));
      for (let i = 0; i < 500; i++) expect(await statusOf(`/a?${i}`)).toBe(308);
      const pid = Number.parseInt(shown, 10);
      terminal.stdin.write('\n');
      await until(() => shown.includes('/a?499'));
      expect(shown.match(/"target":"\/a\?\d+"/g)).toHaveLength(500);
      process.kill(pid, 'SIGTERM');
      expect(await once(terminal, 'exit')).toEqual([0, null]);
    } finally {
      terminal.kill('SIGKILL');
    }
  },
);

test('a named pipe whose reader goes and comes back gets what waited, and the log says that it failed', async () => {
  configure('{ access: json }');
  const fifo = join(folder, 'access');
  expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
  const shell = `exec "$0" "$@" > access 2> error.log`;
  const server = spawn('sh', ['-c', shell, process.execPath, ...serveArgs], { cwd: folder });
  const read = () => {
    const reader = spawn('cat', [fifo]);
    const got = { text: '', end: () => reader.kill() };
    reader.stdout.setEncoding('utf8').on('data', text => {
      got.text += text;
    });
    return got;
  };
  try {
    const first = read();
    await until(() => accepts(port));
    expect(await statusOf('/a?first')).toBe(308);
    await until(() => first.text.includes('/a?first'));
    first.end();
    await wait(100);
    for (let i = 0; i < 100; i++) expect(await statusOf(`/a?between${i}`)).toBe(308);
    const second = read();
    await until(() => second.text.includes('/a?between99'));
    expect(second.text.match(/between/g)).toHaveLength(100);
    const log = readFileSync(join(folder, 'error.log'), 'utf8');
    expect(log.match(/log-output-failed/g)).toHaveLength(1);
    second.end();
  } finally {
    server.kill('SIGKILL');
  }
});

test('an outage of half a minute under load is a line and three counts in the log', { timeout: 90_000 }, async () => {
  configure('{ level: info }');
  const file = join(folder, 'error.log');
  const log = openSync(file, 'a');
  const server = new Holdfast(['serve'], { cwd: folder, stdio: ['ignore', 'pipe', log] });
  try {
    await server.printed(/listening on/);
    let requests = 0;
    const end = performance.now() + 31_000;
    const client = async () => {
      for (; performance.now() < end; requests++) {
        expect(await statusOf(`/gone/${requests}`)).toBe(503);
        // Some hundred requests a second: without counts, a hundred times the bytes that are allowed.
        await wait(10);
      }
    };
    await Promise.all(Array.from({ length: 4 }, client));
    expect(statSync(file).size).toBeLessThan(10_000);
    server.kill('SIGTERM');
    await server.ended;
    const failed = readFileSync(file, 'utf8')
      .split('\n')
      .filter(line => line.includes('"msg":"upstream failed"'))
      .map(line => JSON.parse(line).repeated);
    expect(failed.slice(0, 4)).toEqual([undefined, expect.any(Number), expect.any(Number), expect.any(Number)]);
    expect(failed.length).toBeLessThanOrEqual(5);
    expect(failed.reduce((sum, repeated = 1) => sum + repeated, 0)).toBe(requests);
  } finally {
    server.kill('SIGKILL');
    closeSync(log);
  }
});
