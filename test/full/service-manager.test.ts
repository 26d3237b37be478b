import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ServiceManager } from '../../src/cli/service-manager/service-manager.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { Holdfast } from '../cli/run-holdfast.ts';
import { freePort } from '../services/free-port.ts';
import { NotifySocket } from '../services/notify-socket.ts';

const isMissing = !existsSync('/usr/bin/systemd-notify') || !existsSync('/usr/bin/python3');
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error('systemd-notify or python3 is not there');

let folder: string;
let socket: NotifySocket;
let manager: ServiceManager | undefined;
let program: Holdfast | undefined;
let clock: FakeClock;

beforeEach(async () => {
  if (isMissing) return;
  folder = mkdtempSync(join(tmpdir(), 'service-manager-'));
  clock = new FakeClock();
  socket = await NotifySocket.open(join(folder, 'notify'));
});
afterEach(async () => {
  if (isMissing) return;
  program?.kill('SIGKILL');
  await program?.ended;
  await manager?.close();
  manager = program = undefined;
  await socket.close();
  rmSync(folder, { recursive: true });
});

/** As a program has it that `socket` watches. */
function start(environment: Record<string, string> = {}): ServiceManager {
  const parts = { clock, pid: 4242 };
  manager = new ServiceManager({ NOTIFY_SOCKET: socket.address, ...environment }, parts);
  return manager;
}

describe.skipIf(isMissing)('a service manager', () => {
  test('learns that the server is ready, which process it is, and what it does', async () => {
    start().ready('listening on http://localhost:8080');
    await manager!.close();
    expect(socket.notifications[0]!.fields).toEqual([
      'READY=1',
      'MAINPID=4242',
      'STATUS=listening on http://localhost:8080',
    ]);
  });

  test('has read a message when close resolves: the barrier that follows it came with a descriptor, which it closed', async () => {
    start().status('one');
    await manager!.close();
    expect(socket.notifications.map(({ fields, descriptors }) => [fields[0], descriptors])).toEqual([
      ['STATUS=one', 0],
      ['BARRIER=1', 1],
    ]);
  });

  test('is reached by an abstract name', async () => {
    await socket.close();
    socket = await NotifySocket.open(`@holdfast-test-${process.pid}`);
    start().ready('up');
    await socket.received(/^READY=1$/);
  });

  test('gets messages in their order, a reload with the time of its begin and the status of before at its end', async () => {
    const before = process.hrtime.bigint() / 1000n;
    start().ready('up');
    manager!.reloading();
    manager!.reloaded();
    await manager!.close();
    const [, , , reloading, time, ...rest] = socket.fields;
    expect(reloading).toBe('RELOADING=1');
    expect(BigInt(time!.replace('MONOTONIC_USEC=', ''))).toBeGreaterThanOrEqual(before);
    expect(rest).toEqual(['STATUS=reloading the configuration', 'READY=1', 'STATUS=up']);
  });

  test('is not told that the server is ready by a reload before it has started, or while it stops', async () => {
    start().reloading();
    manager!.reloaded();
    manager!.ready('up');
    manager!.stopping(1_000);
    manager!.reloading();
    manager!.reloaded('listening');
    manager!.ready('late');
    await manager!.close();
    expect(socket.fields.filter(field => /^(READY|RELOADING|STOPPING)=/.test(field))).toEqual([
      'READY=1',
      'STOPPING=1',
    ]);
    expect(socket.fields.filter(field => /^STATUS=/.test(field))).toEqual([
      'STATUS=up',
      'STATUS=draining for at most 1 s',
    ]);
  });

  test('is asked for more time every 5 s while a drain runs, and no more when it should be over', async () => {
    start().stopping(60_000);
    await socket.received(/^STOPPING=1$/);
    await clock.advance(600_000);
    await manager!.close();
    const extensions = socket.fields.filter(field => field.startsWith('EXTEND_TIMEOUT_USEC='));
    // 60 s, and 15 s for what comes after: one at once, and 14 that follow.
    expect(extensions).toEqual(Array(15).fill('EXTEND_TIMEOUT_USEC=15000000'));
    expect(socket.fields).toContain('STATUS=draining for at most 60 s');
  });

  test('sees three pings in each time of its watchdog, from when the server is ready', async () => {
    start({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '4242' });
    await clock.advance(60_000);
    expect(socket.fields).toEqual([]);
    manager!.ready('up');
    for (let pings = 1; pings <= 4; pings++) {
      await socket.received(/^WATCHDOG=1$/, pings);
      await clock.advance(10_000);
    }
    await manager!.close();
    expect(socket.fields.filter(field => field === 'WATCHDOG=1')).toHaveLength(5);
  });

  test('gets no pings when its watchdog waits for another process', async () => {
    start({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '1' }).ready('up');
    await clock.advance(60_000);
    await manager!.close();
    expect(socket.fields).not.toContain('WATCHDOG=1');
  });

  test('sees one line of a status that has several, or is long', async () => {
    start().status(`a\nREADY=1\r\nb${'c'.repeat(5_000)}`);
    await manager!.close();
    expect(socket.fields).toHaveLength(1);
    expect(socket.fields[0]).toMatch(/^STATUS=a READY=1 bc{200,600}$/);
  });

  test('finds its variables taken out of the environment', () => {
    const environment = { NOTIFY_SOCKET: socket.address, WATCHDOG_USEC: '1', WATCHDOG_PID: '2', PATH: '/bin' };
    manager = new ServiceManager(environment, { clock });
    expect(environment).toEqual({ PATH: '/bin' });
  });
});

describe.skipIf(isMissing)('holdfast serve under a service manager', () => {
  function serve(env: Record<string, string> = {}, text = 'listen: [{ port: 0, host: 127.0.0.1 }]'): Holdfast {
    writeFileSync(join(folder, 'holdfast.yaml'), `${text}\nroutes: [{ path: /a, redirect: /b }]\n`);
    program = new Holdfast(['serve'], { cwd: folder, env: { NOTIFY_SOCKET: socket.address, ...env } });
    return program;
  }

  test('says when it is ready and when it stops', async () => {
    const server = serve();
    const [, url] = await server.printed(/^listening on (\S+)$/m);
    await socket.received(/^READY=1$/);
    expect(socket.fields).toContain(`MAINPID=${server.process.pid}`);
    expect(socket.fields).toContain(`STATUS=listening on ${url}`);
    server.kill('SIGTERM');
    await socket.received(/^STOPPING=1$/);
    expect(await server.ended).toBe(0);
    expect(socket.fields.some(field => field.startsWith('EXTEND_TIMEOUT_USEC='))).toBe(true);
  });

  test('says why it did not start', async () => {
    const server = serve({}, 'listen: [{ port: 0, host: 192.0.2.1 }]');
    expect(await server.ended).toBe(1);
    expect((await socket.received(/^STATUS=/))[0]).toMatch(/^STATUS=cannot listen on 192\.0\.2\.1/);
    expect(socket.fields).not.toContain('READY=1');
  });

  test('says which fault of the configuration keeps it from starting', async () => {
    const server = serve({}, 'listen: [{ prot: 0 }]');
    expect(await server.ended).toBe(1);
    expect((await socket.received(/^STATUS=/))[0]).toMatch(/^STATUS=.*listen\[0\]/);
    expect(socket.fields).not.toContain('READY=1');
  });

  test('says that a reload was refused, and where it listens after the next one', async () => {
    const server = serve();
    await server.printed(/^listening on (\S+)$/m);
    await socket.received(/^READY=1$/);
    writeFileSync(join(folder, 'holdfast.yaml'), 'listen: [{ prot: 0 }]\n');
    server.kill('SIGHUP');
    const [refused] = await socket.received(/^STATUS=listening on \S+; the last reload was refused: .*listen\[0\]/);
    expect(refused).toMatch(/^STATUS=listening on http:\/\/localhost:\d+; /);
    const port = await freePort();
    writeFileSync(
      join(folder, 'holdfast.yaml'),
      `listen: [{ port: ${port}, host: 127.0.0.1 }]\nroutes: [{ path: /a, redirect: /b }]\n`,
    );
    server.kill('SIGHUP');
    await socket.received(new RegExp(`^STATUS=listening on http://localhost:${port}$`));
  });

  test('a drain by hand says how long it may take, and a second signal how much shorter', async () => {
    const server = serve({}, 'listen: [{ port: 0, host: 127.0.0.1 }]\ndrain: { delay: 20s }');
    await server.printed(/^listening on (\S+)$/m);
    await socket.received(/^READY=1$/);
    const asked = new Holdfast(['drain', '--over', '10m'], { cwd: folder });
    expect(await asked.ended, asked.stderr).toBe(0);
    await socket.received(/^STATUS=draining for at most 620 s$/);
    server.kill('SIGHUP');
    server.kill('SIGTERM');
    await socket.received(/^STATUS=draining for at most 1 s$/);
    expect(await server.ended).toBe(0);
    expect(socket.fields).not.toContain('STATUS=reloading the configuration');
  });

  test('modules of the application do not see the variables of the service manager', async () => {
    writeFileSync(
      join(folder, 'holdfast.config.ts'),
      `console.log('seen:', Object.keys(process.env).filter(name => /^(NOTIFY|WATCHDOG|LISTEN_)/.test(name)).join());
       export default { listen: [{ port: 0, host: '127.0.0.1' }], routes: [{ path: '/a', redirect: '/b' }], session: false };`,
    );
    const env = { NOTIFY_SOCKET: socket.address, WATCHDOG_USEC: '9000000', LISTEN_FDS: '1', LISTEN_PID: '1' };
    program = new Holdfast(['serve'], { cwd: folder, env });
    await program.printed(/^listening on (\S+)$/m);
    expect(program.stdout).toMatch(/^seen: $/m);
  });

  test('pings the watchdog while its event loop turns, and not while a handler blocks it', async () => {
    writeFileSync(
      join(folder, 'holdfast.config.ts'),
      `const block = () => {
         const until = Date.now() + 2_000;
         while (Date.now() < until);
         return new Response('done');
       };
       export default { listen: [{ port: 0, host: '127.0.0.1' }], routes: [{ path: '/block', fetch: block }], session: false };`,
    );
    const env = { NOTIFY_SOCKET: socket.address, WATCHDOG_USEC: '900000' };
    program = new Holdfast(['serve'], { cwd: folder, env });
    const [, url] = await program.printed(/^listening on (\S+)$/m);
    await socket.received(/^WATCHDOG=1$/, 4);
    const answered = fetch(`${url}/block`);
    // A message that was on its way arrives.
    await new Promise(resolve => setTimeout(resolve, 600));
    const before = socket.fields.length;
    await new Promise(resolve => setTimeout(resolve, 1_000));
    expect(socket.fields).toHaveLength(before);
    expect(await (await answered).text()).toBe('done');
    await socket.received(/^WATCHDOG=1$/, 6);
  });

  test('serves without the program that tells it, and says so once', async () => {
    const server = serve({ PATH: '/nowhere', WATCHDOG_USEC: '300000' });
    const [, url] = await server.printed(/^listening on (\S+)$/m);
    await server.printed(/service-manager-unreachable/);
    await new Promise(resolve => setTimeout(resolve, 500));
    expect((await fetch(`${url}/a`, { redirect: 'manual' })).status).toBe(308);
    expect(server.stderr.match(/service-manager-unreachable/g)).toHaveLength(1);
    expect(server.stderr).toMatch(/systemd-notify is not in PATH/);
  });

  test('says nothing where there is none', async () => {
    const server = serve({ NOTIFY_SOCKET: '' });
    await server.printed(/listening on/);
    server.kill('SIGTERM');
    expect(await server.ended).toBe(0);
    expect(server.stderr).not.toMatch(/service-manager/);
  });
});
