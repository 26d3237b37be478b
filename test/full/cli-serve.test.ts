import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { messageOf } from '../../src/base/message-of.ts';
import { Holdfast } from '../cli/run-holdfast.ts';
import { freePort } from '../services/free-port.ts';

let cwd: string;
let program: Holdfast | undefined;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'holdfast-serve-'));
});
afterEach(async () => {
  program?.kill('SIGKILL');
  await program?.ended;
  rmSync(cwd, { recursive: true });
});

function serve(files: Readonly<Record<string, string>>): Holdfast {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(cwd, name), text);
  program = new Holdfast(['serve'], { cwd });
  return program;
}

const index = new URL('../../src/index.ts', import.meta.url).href;
// Its handler never settles, so that draining has something to wait for.
const waiting = `
  import { defineConfig, defineEndpoint } from '${index}';
  const echo = defineEndpoint({ path: '/echo', closeTimeout: '1h', onMessage(connection, data) { connection.send(data); } });
  export default defineConfig({ listen: [{ port: 0, host: '127.0.0.1' }], routes: [{ endpoint: echo }], log: { access: 'off' } });
`;

describe('holdfast serve', () => {
  test('serves a YAML file, prints where, and ends with 0 on SIGTERM', async () => {
    const server = serve({
      'holdfast.yaml': 'listen: [{ port: 0, host: 127.0.0.1 }]\nroutes: [{ path: /a, redirect: /b }]\n',
    });
    const [, url] = await server.printed(/listening on (http:\/\/\S+)/);
    const response = await fetch(`${url}/a`, { redirect: 'manual' });
    expect([response.status, response.headers.get('Location')]).toEqual([308, '/b']);
    server.kill('SIGTERM');
    expect(await server.ended).toBe(0);
  });

  test('does not start with what it does not understand, and says where that stands', async () => {
    const server = serve({
      'holdfast.yaml': 'session:\n  cookie: { name: !env SID }\nroutes: [{ path: /a, redirect: /b }]\n',
    });
    expect(await server.ended).toBe(1);
    expect(server.stderr).toMatch(/holdfast\.yaml:2:\d+: the tag "!env" is not understood/);
  });

  test('has a socket file alone where several start at once over what a killed one has left', async () => {
    const socket = join(cwd, 'web.sock');
    for (let round = 0; round < 2; round++) {
      const all = Array.from({ length: 3 }, (_, index) => {
        const file = join(cwd, `${index}.json`);
        const config = { listen: [{ socket }], dataFolder: `data-${index}`, session: false };
        writeFileSync(file, JSON.stringify({ ...config, routes: [{ path: '/', redirect: `/${index}` }] }));
        return new Holdfast(['serve', '--config', file], { cwd });
      });
      const outcomes = await Promise.all(
        all.map(one =>
          one.printed(/listening on/).then(
            () => 'listens',
            () => one.ended,
          ),
        ),
      );
      expect(outcomes.filter(outcome => outcome === 'listens').length).toBe(1);
      const winner = outcomes.indexOf('listens');
      for (const one of all)
        if (one !== all[winner]) expect(one.stderr).toMatch(/web\.sock: another program listens there/);
      const location = await new Promise((resolve, reject) => {
        const asked = request({ socketPath: socket, path: '/' }, answer => resolve(answer.headers.location));
        asked.on('error', reject).end();
      });
      expect(location).toBe(`/${winner}`);
      all[winner]!.kill('SIGKILL');
      await all[winner]!.ended;
      expect(existsSync(socket)).toBe(true);
    }
  });

  test('warns at its start of a proxy block that is wider than its address', async () => {
    const server = serve({
      'holdfast.yaml':
        'listen: [{ port: 0, host: 127.0.0.1 }]\ntrustedProxies: [192.168.1.0/2]\nroutes: [{ path: /a, redirect: /b }]\n',
    });
    await server.printed(/listening on/);
    expect(server.stderr).toMatch(/config-doubtful.*trustedProxies\[0\].*192\.0\.0\.0\/2/);
  });

  test('has one line for each doubt at its start', async () => {
    const server = serve({
      'holdfast.yaml': [
        'listen: [{ port: 0, host: localhost, hosts: [localhost] }]',
        'trustedProxies: [192.168.1.0/2]',
        'session: { tracking: [cookie, url] }',
        'auth: { staff: { type: basic, realm: a, file: users } }',
        'routes: [{ path: /a, redirect: /b, policy: { auth: staff } }]',
        '',
      ].join('\n'),
      users: 'bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n',
    });
    await server.printed(/listening on/);
    const lines = server.stderr.split('\n').filter(line => line.includes('"level":"warn"'));
    expect(lines).toEqual([
      expect.stringMatching(/"code":"wide-block"/),
      expect.stringMatching(/"code":"sessions-in-urls"/),
      expect.stringMatching(/"event":"password-file-doubtful"/),
    ]);
  });

  test('says in its log what `holdfast check` warns of, with its place', async () => {
    const server = serve({
      'holdfast.yaml':
        'listen: [{ port: 0, host: 127.0.0.1 }]\nroutes: [{ path: /a, redirect: /b }]\nsession:\n  idleTimeout: 20h\n  cookie: { sameSite: "${SAME_SITE:-none}" }\n',
    });
    await server.printed(/listening on/);
    const lines = server.stderr.split('\n').flatMap(line => (line.startsWith('{') ? [JSON.parse(line)] : []));
    const warnings = lines.filter(({ event }) => event === 'config-doubtful');
    expect(warnings).toEqual([
      expect.objectContaining({
        level: 'warn',
        code: 'rebinding',
        path: 'listen[0].host',
        file: 'holdfast.yaml',
        line: 1,
      }),
      expect.objectContaining({ path: 'session.idleTimeout', line: 4, msg: expect.stringMatching(/longer than/) }),
      expect.objectContaining({ code: 'cookie-not-secure', path: 'session.cookie.sameSite', line: 5, column: 23 }),
    ]);
  });

  test('does not start with files that cannot be used, and names all of them', async () => {
    const server = serve({
      'holdfast.yaml':
        'listen: [{ port: 0, tls: { certificate: none.crt, key: none.key } }]\nauth:\n  staff: { type: basic, file: users }\nroutes: [{ path: /a, redirect: /b, policy: { auth: staff } }]\n',
      users: 'alice:$1$abc$def\n',
    });
    expect(await server.ended).toBe(1);
    expect(server.stderr).toMatch(/holdfast\.yaml:1:\d+: listen\[0\]\.tls\.certificate: .*none\.crt/);
    expect(server.stderr).toMatch(/holdfast\.yaml:1:\d+: listen\[0\]\.tls\.key: .*none\.key/);
    expect(server.stderr).toMatch(/holdfast\.yaml:3:\d+: auth\.staff.*htpasswd -B/);
  });

  test('prints where backends ask for sessions and keys', async () => {
    const server = serve({
      'holdfast.yaml':
        'listen: [{ port: 0, host: 127.0.0.1 }]\ninternal: { port: 0 }\nroutes: [{ path: /a, redirect: /b }]\n',
    });
    const [, url] = await server.printed(/listening for backends on (http:\/\/\S+)/);
    expect((await fetch(`${url}/sessions/x`)).status).toBe(401);
  });

  test('serves the endpoint of a TypeScript file and closes its sockets with 1001 on SIGINT', async () => {
    const server = serve({ 'holdfast.config.ts': waiting });
    const [, address] = await server.printed(/listening on http:\/\/(\S+)/);
    const socket = new WebSocket(`ws://${address}/echo`);
    const echoed = new Promise(resolve => socket.once('message', data => resolve(String(data))));
    const closed = new Promise(resolve => socket.once('close', resolve));
    socket.once('open', () => socket.send('hold fast'));
    expect(await echoed).toBe('hold fast');
    server.kill('SIGINT');
    expect(await closed).toBe(1001);
    expect(await server.ended).toBe(0);
  });

  test('ends within a second or two on the second signal, whatever its clients do', async () => {
    const server = serve({ 'holdfast.config.ts': waiting });
    const [, address] = await server.printed(/listening on http:\/\/(\S+)/);
    // A peer that never answers the close frame, so that the first signal alone would not end the server.
    const socket = new WebSocket(`ws://${address}/echo`);
    await new Promise(resolve => socket.once('open', resolve));
    socket.pause();
    server.kill('SIGTERM');
    await server.printed(/SIGTERM: draining/);
    const begun = performance.now();
    server.kill('SIGTERM');
    expect(await server.ended).toBe(0);
    expect(performance.now() - begun).toBeLessThan(5_000);
    socket.terminate();
  });

  test('ends with 1 and says so when the port is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await new Promise(resolve => other.once('listening', resolve));
    const { port } = other.address() as AddressInfo;
    const server = serve({
      'holdfast.json': JSON.stringify({
        listen: [{ port, host: '127.0.0.1', hosts: ['127.0.0.1'] }],
        routes: [{ path: '/', redirect: '/a' }],
      }),
    });
    expect(await server.ended).toBe(1);
    expect(server.stderr).toMatch(new RegExp(`^holdfast: cannot listen on .*port ${port}: .* listens? there`));
    other.close();
  });

  test('ends with 1 and says why a store cannot be opened, also behind several addresses', async () => {
    const port = await freePort();
    writeFileSync(join(cwd, 'session.key'), 'k'.repeat(43));
    const server = serve({
      'holdfast.json': JSON.stringify({
        listen: [{ port: 0, host: '127.0.0.1', hosts: ['127.0.0.1'] }],
        session: { store: `postgres://shop:topsecret@127.0.0.1:${port}/sessions`, keyFiles: ['session.key'] },
        routes: [{ path: '/', redirect: '/a' }],
      }),
    });
    expect(await server.ended).toBe(1);
    expect(server.stderr).toMatch(/^holdfast: postgres at .*; see the cause\n {2}cause: connect ECONNREFUSED .*\n$/);
    expect(server.stderr).not.toContain('topsecret');
    const errors = [new Error('connect ECONNREFUSED ::1:1'), new Error('connect ECONNREFUSED 127.0.0.1:1')];
    expect(messageOf(new AggregateError(errors))).toBe('connect ECONNREFUSED ::1:1; connect ECONNREFUSED 127.0.0.1:1');
  });

  test('ends with 1 and prints every problem of a wrong configuration', async () => {
    const server = serve({ 'holdfast.yaml': 'listen: [{ port: x }]\nrouts: []\n' });
    expect(await server.ended).toBe(1);
    expect(server.stderr).toBe(
      'holdfast: holdfast.yaml:1:18: listen[0].port: expected a number, got "x"\n' +
        'holdfast.yaml:2:1: routs: unknown key "routs" in the configuration; did you mean "routes"?\n',
    );
  });
});
