import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { expect, test } from 'vitest';
import { UsageError } from '../../src/cli/command.ts';
import { doctor } from '../../src/cli/commands/doctor.ts';
import { Chart } from '../../src/cli/doctor/chart.ts';
import { FINDINGS } from '../../src/cli/doctor/findings.ts';
import { conclusion } from '../../src/cli/doctor/report.ts';
import { readTarget, shownUrl } from '../../src/cli/doctor/target.ts';
import { echoServer } from './doctor-servers.ts';
import { Holdfast, runHoldfast } from './run-holdfast.ts';

test.each([
  [['example.com/socket'], /not the URL of a WebSocket; write for example "wss:\/\/example\.com\/socket"/],
  [['ftp://example.com/'], /not the URL of a WebSocket/],
  [['wss://user:secret@example.com/'], /write --header "Authorization: Basic \.\.\."/],
  [['ws://localhost/', '--idle', '70'], /not a duration: "70"; write for example/],
  [['ws://localhost/', '--idle', '2d'], /--idle 2d is too long; write at most 1d/],
  [['ws://localhost/', '--connect', 'localhost'], /write HOST:PORT or \[IPV6\]:PORT/],
  [['ws://localhost/', '--header', 'secret'], /write --header "Name: value"/],
  [['ws://localhost/', '--header', 'Origin: http://a.test'], /write --origin "https:\/\/example\.com"/],
  [['ws://localhost/', '--header', 'Upgrade: h2c'], /the header Upgrade is set by the handshake itself/],
  [['ws://localhost/', '--cookie', 'a=secret\r\nX: y'], /the value of the header Cookie has a line break/],
  [['ws://localhost/', '--subprotocol', 'a b'], /subprotocols must be different tokens/],
  [['ws://localhost/', '--ca', '/nowhere.pem'], /--ca cannot be read: ENOENT/],
])('%j is a wrong command line', async (args, message) => {
  const { values, positionals } = parseArgs({ args, options: doctor.options, allowPositionals: true });
  const error = await doctor.run(values, positionals).catch(thrown => thrown);
  expect(error).toBeInstanceOf(UsageError);
  expect(error.message).toMatch(message);
  expect(error.message).not.toContain('secret');
});

test('without a URL the program says so and ends with 2', async () => {
  expect(await runHoldfast(['doctor'])).toEqual({
    code: 2,
    stdout: '',
    stderr: 'holdfast: doctor: URL is missing; see holdfast doctor --help\n',
  });
});

test('a reader that goes away, as head does, does not break it', async () => {
  await using server = await echoServer();
  const program = new Holdfast(['doctor', `ws://127.0.0.1:${server.port}/`]);
  program.process.stdout!.destroy();
  expect(await program.ended).toBe(0);
  expect(program.stderr).toBe('');
});

test('a proxy of the client is not used, and that is said without its password', async () => {
  await using server = await echoServer();
  const env = { http_proxy: '', HTTP_PROXY: 'http://user:secret@127.0.0.1:1' };
  const program = new Holdfast(['doctor', `ws://127.0.0.1:${server.port}/`], { env });
  expect(await program.ended).toBe(0);
  expect(program.stdout).toMatch(/^note +proxy +HTTP_PROXY is set, and not used: the server is dialled directly/m);
  expect(program.stdout).toContain('Nothing wrong was found.');
  expect(program.stdout).not.toContain('secret');
});

test('a URL is read with its port, and shown without its query', () => {
  const target = readTarget('https://Example.com:8443/a/b?token=secret', '[::1]:9000');
  expect(target).toEqual({
    isSecure: true,
    hostname: 'example.com',
    port: 8443,
    host: 'example.com:8443',
    path: '/a/b?token=secret',
    origin: 'https://example.com:8443',
    dial: { hostname: '::1', port: 9000 },
  });
  expect(shownUrl(target)).toBe('wss://example.com:8443/a/b?...');
  expect(shownUrl(readTarget('ws://example.com/a;jsessionid=secret'))).toBe('ws://example.com/a;...');
  expect(readTarget('ws://[::1]/')).toMatchObject({ hostname: '::1', port: 80, host: '[::1]', path: '/' });
});

test('the remedy is that of the proxy in front, and of each when it is not known', () => {
  const said = (server: string) => {
    const chart = new Chart();
    chart.server = server;
    chart.report('handshake', 'fail', 'upgrade-lost', 'answered with 426 instead of 101');
    return conclusion(chart)
      .split('\n')
      .map(line => line.slice(2, 8))
      .filter(line => /^(?:Apache|nginx:)/.test(line));
  };
  expect(said('Apache/2.4.71 (Debian)')).toEqual(['Apache']);
  expect(said('nginx/1.22.1')).toEqual(['nginx:']);
  expect(said('')).toEqual(['Apache', 'nginx:']);
  // Apache passes on what its backend says of itself.
  expect(said('Python/3.11 websockets/10.4')).toEqual(['Apache', 'nginx:']);
});

test('each finding is found by a test', () => {
  const tests = [
    './doctor.test.ts',
    './doctor-hostile.test.ts',
    './doctor-own.test.ts',
    '../full/doctor-apache.test.ts',
  ]
    .map(file => readFileSync(new URL(file, import.meta.url), 'utf8'))
    .join('');
  expect(Object.keys(FINDINGS).filter(code => !tests.includes(`'${code}'`))).toEqual([]);
});
