import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Config, defineEndpoint } from '../../src/index.ts';
import { createLogger } from '../../src/server/log/server-log.ts';
import { WiredServer } from '../server/wires.ts';

const run = promisify(execFile);
const FILES = fileURLToPath(new URL('../../docs/fail2ban', import.meta.url));
const GET = (path: string, more = '') => `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${more}\r\n`;
const FAKED = '","address":"203.0.113.66","event":"login-failed';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-fail2ban-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The addresses that Debian's fail2ban-regex finds in a log, each as often as it fails. */
async function failures(log: string, options = ''): Promise<string[]> {
  const filter = join(FILES, 'filter.d', 'holdfast.conf') + options;
  const { stdout } = await run('fail2ban-regex', ['-o', 'ip', log, filter]).catch(error => {
    if (error.code === 1) return { stdout: '' }; // no line fails
    throw error;
  });
  return stdout.split('\n').filter(line => line !== '');
}

async function say(server: WiredServer, from: string, text: string): Promise<void> {
  const socket = net.connect({ port: server.port('http/1'), host: '127.0.0.1' }).on('error', () => {});
  socket.write(`PROXY TCP${from.includes(':') ? `6 ${from} ::1` : `4 ${from} 127.0.0.1`} 4711 80\r\n${text}`, 'latin1');
  await once(socket.resume(), 'close');
}

/** A server that has been attacked from some addresses. */
async function attacked(config: Config, logger?: Parameters<typeof WiredServer.start>[1]): Promise<void> {
  const server = await WiredServer.start(
    {
      listen: [{ port: 0, host: '127.0.0.1', proxyProtocol: 'required' }],
      trustedProxies: ['127.0.0.1'],
      routes: [{ path: '/', fetch: () => new Response('hello') }, { endpoint: defineEndpoint({ path: '/echo' }) }],
      bans: { action: 'refuse', jails: { honeypot: { paths: ['/wp-login.php'] } } },
      ...config,
    },
    logger,
  );
  await say(server, '192.0.2.1', GET('/'));
  await say(server, '192.0.2.2', GET('/wp-login.php'));
  await say(server, '192.0.2.3', 'GARBAGE\r\n\r\n');
  await say(server, '2001:db8::4', GET('/echo', 'Upgrade: websocket\r\nConnection: Upgrade\r\n'));
  await say(server, '192.0.2.5', GET(`/no${encodeURI(FAKED)}`, `User-Agent: ${FAKED}\r\nReferer: ${FAKED}\r\n`));
  await say(server, '192.0.2.6', GET('/wp-login.php', 'Sec-Fetch-Site: cross-site\r\n'));
  await say(server, '192.0.2.7', GET('/%zz', 'Sec-Fetch-Site: cross-site\r\n'));
  await say(server, '192.0.2.8', GET(`/?${'a'.repeat(20_000)}`));
  await server.close();
}

describe('Fail2Ban with the shipped filter', () => {
  test('finds in a security log who has attacked, and nobody else', async () => {
    const file = join(folder, 'security.log');
    await attacked({ log: { level: 'silent', security: { file } } });
    expect((await failures(file)).sort()).toEqual(['192.0.2.2', '192.0.2.3', '2001:db8::4']);
    expect(await failures(file, '[mode=banned]')).toEqual(['192.0.2.2']);
    expect(await failures(file, '[events="bad-request"]')).toEqual(['192.0.2.3']);
    // All lines have a time that it reads, to the second.
    const { stdout } = await run('fail2ban-regex', [file, join(FILES, 'filter.d', 'holdfast.conf')]);
    const lines = readFileSync(file, 'utf8').trim().split('\n').length;
    expect(stdout).toContain(`[${lines}] "time":"Year-Month-DayT24hour:Minute:Second`);
  });

  test("finds them in the server's own log, too", async () => {
    const file = join(folder, 'server.log');
    const sink = { write: (line: string) => appendFileSync(file, line) };
    await attacked({}, createLogger({ level: 'debug' }, sink));
    expect((await failures(file)).sort()).toEqual(['192.0.2.2', '192.0.2.3', '2001:db8::4']);
    expect(await failures(file, '[mode=banned]')).toEqual(['192.0.2.2']);
  });

  test('takes the jails that are shipped', async () => {
    const etc = join(folder, 'fail2ban');
    cpSync('/etc/fail2ban', etc, { recursive: true });
    cpSync(FILES, etc, { recursive: true });
    const log = join(folder, 'empty.log');
    appendFileSync(log, '');
    const local = `[sshd]\nenabled = false\n[holdfast]\nlogpath = ${log}\n[holdfast-banned]\nenabled = true\nlogpath = ${log}\n`;
    appendFileSync(join(etc, 'jail.d', 'zz.conf'), local);
    const dump = await run('fail2ban-client', ['-c', etc, '--dp']).catch(error => error);
    const text = `${dump.stdout}${dump.stderr}`;
    expect(text).toMatch(/\['add', 'holdfast', /);
    expect(text).toMatch(/\['add', 'holdfast-banned', /);
    expect(text).toMatch(/\[?'(?:multi-)?set', 'holdfast-banned', 'addfailregex', .*"event":"banned"/);
    expect(text).toMatch(/'set', 'holdfast', 'maxretry', 10\]/);
  });
});
