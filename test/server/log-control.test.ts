import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { LogConfig } from '../../src/config/config.ts';
import type { FollowedLine } from '../../src/server/log/followers.ts';
import { LogControl } from '../../src/server/log/log-control.ts';
import { prettyLine } from '../../src/server/log/pretty.ts';
import { closing } from '../services/closing.ts';
import { Lines } from './wires.ts';

const open = closing();

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'holdfast-logs-'));
  open.push({ close: () => rmSync(path, { recursive: true, force: true }) });
  return path;
}

function logsOf(config: LogConfig, logger?: Lines): LogControl {
  const logs = LogControl.open(config, { logger });
  open.push({ close: () => logs.close() });
  return logs;
}

const linesOf = (file: string): string[] => readFileSync(file, 'utf8').split('\n').slice(0, -1);
const messagesOf = (file: string): string[] => linesOf(file).map(line => JSON.parse(line).msg);
const request = {
  ...{ clientAddress: '192.0.2.7', method: 'GET', target: '/', httpVersion: '1.1' },
  ...{ status: 200, bytesSent: 5, complete: true, durationMs: 1 },
};

describe('destinations of logs', () => {
  test('the log goes to several files, each from its own level and in its own format', async () => {
    const path = folder();
    const [all, warnings] = [join(path, 'all.log'), join(path, 'warnings.log')];
    const logs = logsOf({
      server: [
        { file: all, level: 'debug' },
        { file: warnings, level: 'warn', format: 'pretty' },
      ],
    });
    logs.logger.of('gateway').debug({ event: 'a' }, 'said quietly');
    logs.logger.of('session').warn({ event: 'b', path: '/x y' }, 'said loudly');
    await expect.poll(() => linesOf(all).length).toBe(2);
    await expect.poll(() => linesOf(warnings).length).toBe(1);
    expect(JSON.parse(linesOf(all)[0]!)).toMatchObject({ level: 'debug', part: 'gateway', msg: 'said quietly' });
    expect(linesOf(warnings)[0]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} WARN {2}session said loudly event=b path="\/x y"$/);
  });

  test('the access log goes to several files, one with all lines and one with what failed', async () => {
    const path = folder();
    const [all, failed] = [join(path, 'all.log'), join(path, 'failed.log')];
    const logs = logsOf({
      level: 'silent',
      access: [
        { format: '%h "%r" %>s %b', file: all },
        { format: 'json', file: failed, level: 'error' },
      ],
    });
    logs.accessLog.request(request);
    logs.accessLog.request({ ...request, status: 503 });
    await expect
      .poll(() => linesOf(all))
      .toEqual([...['192.0.2.7 "GET / HTTP/1.1" 200 5', '192.0.2.7 "GET / HTTP/1.1" 503 5']]);
    await expect.poll(() => linesOf(failed).map(line => JSON.parse(line).status)).toEqual([503]);
  });

  test('the end of a server whose log file takes nothing more waits for half a second, while other work goes on', async () => {
    const file = join(folder(), 'stalled');
    execFileSync('mkfifo', [file]);
    const reader = openSync(file, constants.O_RDWR | constants.O_NONBLOCK);
    const logs = LogControl.open({ level: 'silent', access: [{ format: 'json', file }] });
    const emptyPipe = () => {
      try {
        while (readSync(reader, Buffer.alloc(65_536)) > 0);
      } catch {
        // There is nothing more.
      }
    };
    try {
      // A pipe takes 64 KiB: the second write stalls in its thread.
      for (let i = 0; i < 20; i++) {
        logs.accessLog.request({ ...request, userAgent: 'x'.repeat(10_000) });
        await new Promise(resolve => setImmediate(resolve));
      }
      let turns = 0;
      const turning = setInterval(() => turns++, 10);
      const begun = performance.now();
      await logs.close();
      clearInterval(turning);
      expect(performance.now() - begun).toBeLessThan(5_000);
      expect(turns).toBeGreaterThan(5);
    } finally {
      emptyPipe();
      // The write that comes back then finds nothing of it.
      await new Promise(resolve => setTimeout(resolve, 100));
      emptyPipe();
      closeSync(reader);
    }
  });

  test('two logs of one file write whole lines in the order in which they came', async () => {
    const file = join(folder(), 'both.log');
    const logs = logsOf({ server: { file }, access: { format: 'json', file } });
    for (let i = 0; i < 100; i++) {
      logs.logger.info({ event: `line-${i}` }, 'own');
      logs.accessLog.request(request);
    }
    await expect.poll(() => linesOf(file).length).toBe(200);
    expect(linesOf(file).map(line => JSON.parse(line).event === 'request')).toEqual(
      Array.from({ length: 200 }, (_, i) => i % 2 === 1),
    );
  });

  test('a file that cannot be written is named with its place in the configuration', () => {
    const file = join(folder(), 'none', 'x.log');
    expect(() => LogControl.open({ server: [{ to: 'stderr' }, { file }] })).toThrow(/log\.server\[1\]: cannot write/);
  });
});

describe('the level of a part', () => {
  test('lets more of this part through than of the others, and can change while it runs', async () => {
    const file = join(folder(), 'server.log');
    const logs = logsOf({ server: { file }, level: 'warn', levels: { session: 'debug' } });
    const [session, gateway] = [logs.logger.of('session'), logs.logger.of('gateway')];
    expect([session.isLevelEnabled('debug'), gateway.isLevelEnabled('info')]).toEqual([true, false]);
    session.debug({ event: 'a' }, 'session');
    gateway.info({ event: 'b' }, 'not written');
    logs.setLevel('gateway', 'info');
    gateway.info({ event: 'b' }, 'gateway');
    expect([logs.level(), logs.level('gateway'), logs.level('session')]).toEqual(['warn', 'info', 'debug']);
    logs.setLevel(undefined, 'error');
    session.warn({ event: 'c' }, 'not written either');
    gateway.error({ event: 'd' }, 'error');
    await expect.poll(() => messagesOf(file)).toEqual(['session', 'gateway', 'error']);
  });

  test('keeps lines from a logger of the program, whose own levels hold otherwise', () => {
    const own = new Lines();
    const logs = logsOf({ level: 'silent' }, own);
    logs.logger.of('session').debug({ event: 'a' }, 'first');
    logs.setLevel('session', 'warn');
    logs.logger.of('session').debug({ event: 'b' }, 'second');
    logs.logger.of('gateway').debug({ event: 'c' }, 'third');
    expect(own.all.map(({ message }) => message)).toEqual(['first', 'third']);
    expect(own.all[0]!.fields).toEqual({ event: 'a', part: 'session' });
  });
});

describe('a follower of the logs', () => {
  const follow = (logs: LogControl, filter: Parameters<LogControl['follow']>[0]) => {
    const lines: FollowedLine[] = [];
    const stop = logs.follow(filter, line => lines.push(line));
    return { lines, stop };
  };

  test('gets lines that a logger of the program does not take, and it does not get them', async () => {
    const own = Object.assign(new Lines(), { isLevelEnabled: (level: string) => level !== 'debug' });
    const logs = logsOf({}, own);
    const logger = logs.logger.of('session');
    expect(logger.isLevelEnabled?.('debug')).toBe(false);
    const { lines, stop } = follow(logs, { level: 'debug' });
    expect(logger.isLevelEnabled?.('debug')).toBe(true);
    logger.debug({ event: 'a' }, 'quiet');
    logger.info({ event: 'b' }, 'loud');
    await expect.poll(() => lines.map(({ text }) => JSON.parse(text).msg)).toEqual(['quiet', 'loud']);
    expect(own.all.map(({ message }) => message)).toEqual(['loud']);
    stop();
  });

  test('gets lines below the level of the log, of one part, and they are not written for it', async () => {
    const file = join(folder(), 'server.log');
    const logs = logsOf({ server: { file } });
    const { lines, stop } = follow(logs, { level: 'debug', part: 'session' });
    logs.logger.of('session').debug({ event: 'a' }, 'session');
    logs.logger.of('gateway').debug({ event: 'b' }, 'gateway');
    await expect.poll(() => lines.map(({ text }) => JSON.parse(text).msg)).toEqual(['session']);
    stop();
    expect(logs.logger.of('session').isLevelEnabled('debug')).toBe(false);
    expect(linesOf(file)).toEqual([]);
  });

  test('gets lines of the access log when it asks for them, also where none is written', async () => {
    const logs = logsOf({ level: 'silent' });
    expect(logs.accessLog.isOn).toBe(false);
    const { lines, stop } = follow(logs, { kinds: ['access'] });
    expect(logs.accessLog.isOn).toBe(true);
    logs.accessLog.request(request);
    await expect.poll(() => lines.map(({ kind, text }) => [kind, JSON.parse(text).target])).toEqual([['access', '/']]);
    stop();
    expect(logs.accessLog.isOn).toBe(false);
  });

  test('gets security events, which have a log of their own', async () => {
    const file = join(folder(), 'security.log');
    const logs = logsOf({ level: 'silent', security: { file } });
    const { lines } = follow(logs, {});
    logs.logger.of('policy').warn({ event: 'login-failed', address: '192.0.2.7' }, 'no');
    await expect.poll(() => lines.map(({ kind }) => kind)).toEqual(['security']);
  });

  test('that is slow loses lines beyond 1 MiB and is told how many', async () => {
    const logs = logsOf({ level: 'silent' });
    const first = Promise.withResolvers<void>();
    const got: string[] = [];
    logs.follow({ level: 'info' }, line => {
      got.push(line.text);
      return first.promise;
    });
    for (let i = 0; i < 3_000; i++) logs.uncounted.info({ event: 'x', filler: 'y'.repeat(1_000) }, `${i}`);
    first.resolve();
    await expect.poll(() => got.at(-1)).toContain('log-lines-dropped');
    const { lines } = JSON.parse(got.at(-1)!);
    expect(lines).toBe(3_000 - (got.length - 1));
    expect(lines).toBeGreaterThan(1_000);
  });
});

describe('files of logs', () => {
  test('that were moved are begun anew at once by reopen, even when there is nothing to write', async () => {
    const path = folder();
    const file = join(path, 'access.log');
    const logs = logsOf({ level: 'silent', access: { format: '%>s', file } });
    logs.accessLog.request(request);
    await expect.poll(() => linesOf(file)).toEqual(['200']);
    renameSync(file, `${file}.1`);
    await logs.reopen();
    expect(linesOf(file)).toEqual([]);
    logs.accessLog.request({ ...request, status: 404 });
    await expect.poll(() => linesOf(file)).toEqual(['404']);
    expect(linesOf(`${file}.1`)).toEqual(['200']);
  });

  test('are swapped while lines are written, and none is lost or doubled', async () => {
    const path = folder();
    const files = [join(path, 'a.log'), join(path, 'b.log'), join(path, 'c.log')];
    const logs = logsOf({ server: { file: files[0]! } });
    for (let i = 0; i < 3_000; i++) {
      if (i % 100 === 0) logs.reconfigure({ server: { file: files[(i / 100) % 3]! } });
      logs.uncounted.info({ event: 'x' }, `${i}`);
      if (i % 250 === 0) await new Promise(resolve => setImmediate(resolve));
    }
    const all = () => files.flatMap(messagesOf).map(Number);
    await expect.poll(() => all().length).toBe(3_000);
    expect(new Set(all()).size).toBe(3_000);
  });

  test('stay as they were when a new configuration cannot be opened', async () => {
    const path = folder();
    const file = join(path, 'a.log');
    const logs = logsOf({ server: { file } });
    expect(() => logs.reconfigure({ server: [{ file: join(path, 'none', 'b.log') }] })).toThrow(/cannot write/);
    logs.logger.info({ event: 'x' }, 'still here');
    await expect.poll(() => messagesOf(file)).toEqual(['still here']);
  });
});

test('a line for people lets nothing from the network move the cursor or begin a line', () => {
  const line = JSON.stringify({
    ...{ level: 'error', time: '2026-11-02T03:04:05.678Z', pid: 1, part: 'gateway', event: 'x' },
    ...{ path: 'a\u001b[2J\nb', msg: 'broke\u009b1m', err: { type: 'Error', stack: 'Error: x\u001b[0m\n    at y' } },
  });
  const text = prettyLine(`${line}\n`, false);
  expect(text.split('\n')).toEqual([
    expect.stringMatching(/ ERROR gateway broke\\x9b1m event=x path="a\\u001b\[2J\\nb"$/),
    ...['    Error: x\\x1b[0m', '    at y', ''],
  ]);
  expect(prettyLine(`${line}\n`, true)).toContain('\x1b[31mERROR\x1b[0m');
});
