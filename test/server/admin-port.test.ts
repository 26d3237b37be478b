import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { closing } from '../services/closing.ts';
import { until } from '../services/until.ts';
import { AdminServer } from './admin-server.ts';
import { Lines } from './wires.ts';

const open = closing<AdminServer>();

async function start(...options: Parameters<typeof AdminServer.start>): Promise<AdminServer> {
  const server = await AdminServer.start(...options);
  open.push(server);
  return server;
}

describe('the admin port', () => {
  test('answers whoever has the token, which was made for the owner only', async () => {
    const server = await start();
    expect(statSync(join(server.folder, 'data/keys/admin.token')).mode & 0o777).toBe(0o600);
    const { status, json, headers } = await server.ask('/v1/status');
    expect(status).toBe(200);
    expect(json).toMatchObject({ state: 'running', isReady: true, pid: process.pid });
    expect(headers).toMatchObject({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
    expect(headers['access-control-allow-origin']).toBeUndefined();
  });

  test.each([
    ['no token', {}],
    ['a wrong token', { Authorization: `Bearer ${'x'.repeat(43)}` }],
    ['a password', { Authorization: 'Basic YTpi' }],
  ])('answers 401 to %s, whether or not there is anything, and ends the connection', async (_, headers) => {
    const server = await start();
    for (const path of ['/v1/status', '/nothing', '/openapi.json', '/metrics', '/v1/logs']) {
      const answer = await server.askPlainly(path, { headers });
      expect([answer.status, answer.json.code, answer.headers.connection]).toEqual([
        401,
        'ERR_ADMIN_UNAUTHORIZED',
        'close',
      ]);
    }
    const post = await server.askPlainly('/v1/drain', { method: 'POST', headers });
    expect(post.status).toBe(401);
  });

  test('lets probes ask without a token', async () => {
    const server = await start();
    expect(await server.askPlainly('/healthz')).toMatchObject({ status: 200, json: { ok: true, state: 'running' } });
    expect(await server.askPlainly('/readyz')).toMatchObject({ status: 200, json: { ok: true } });
    expect((await server.askPlainly('/readyz', { method: 'HEAD' })).text).toBe('');
  });

  test.each([
    ['a name that leads here (DNS rebinding)', { Host: 'attacker.example' }],
    ['a page of another site', { Origin: 'https://attacker.example' }],
    ['a sandboxed page', { Origin: 'null' }],
    ['another port of this machine', { Origin: 'http://127.0.0.1:8080' }],
    ['a form of another site', { 'Sec-Fetch-Site': 'cross-site' }],
    ['an image of a neighbouring site', { 'Sec-Fetch-Site': 'same-site' }],
  ])('refuses %s, even with the token', async (_, headers) => {
    const server = await start();
    for (const path of ['/v1/status', '/healthz']) {
      const { status, json } = await server.ask(path, { headers });
      expect([status, json.code]).toEqual([403, 'ERR_ADMIN_FORBIDDEN']);
    }
  });

  test('answers a page of its own, and a name that the configuration allows', async () => {
    const server = await start({ admin: { port: 0, hosts: ['admin.example'] } });
    const { host } = new URL(server.server.adminUrl!.replace('localhost', '127.0.0.1'));
    const own = { Origin: `http://${host}`, 'Sec-Fetch-Site': 'same-origin' };
    expect((await server.ask('/v1/status', { headers: own })).status).toBe(200);
    expect((await server.ask('/v1/status', { headers: { Host: 'admin.example' } })).status).toBe(200);
  });

  test('reports a wrong token as a failed login, which the jail counts and bans', async () => {
    const logger = new Lines();
    const server = await start(
      { bans: { action: 'refuse', allow: ['192.0.2.1'], jails: { login: { failures: 3, within: '1m' } } } },
      { logger },
    );
    const wrong = { Authorization: `Bearer ${'x'.repeat(43)}` };
    for (let i = 0; i < 3; i++) await server.askPlainly('/v1/status', { headers: wrong });
    expect(logger.all.filter(({ fields }) => fields.event === 'login-failed')).toHaveLength(3);
    const { status, json } = await server.ask('/v1/status');
    expect([status, json.code]).toEqual([403, 'ERR_POLICY_BANNED']);
    // Its owner can still lift it.
    expect((await server.askSocket('/v1/bans')).json.bans).toMatchObject([{ client: '127.0.0.1', jail: 'login' }]);
    await server.askSocket('/v1/bans/127.0.0.1', { method: 'DELETE' });
    expect((await server.ask('/v1/status')).status).toBe(200);
    expect(JSON.stringify(logger.all)).not.toContain('xxxxx');
  });

  test('takes each token of a named file, and reads it again when it changes', async () => {
    const file = join(process.env.TMPDIR ?? '/tmp', `holdfast-admin-tokens-${process.pid}`);
    const [one, other, third] = ['1', '2', '3'].map(digit => digit.repeat(32));
    writeFileSync(file, `# of the dashboard\n${one}\n\n${other}\n`);
    const server = await start({ admin: { port: 0, tokenFile: file } });
    const asks = async (token: string) =>
      (await server.askPlainly('/v1/status', { headers: { Authorization: `Bearer ${token}` } })).status;
    expect([await asks(one!), await asks(other!), await asks(third!)]).toEqual([200, 200, 401]);
    writeFileSync(file, `${third}\n`);
    await until(async () => (await asks(third!)) === 200);
    expect(await asks(one!)).toBe(401);
  });

  test.each([
    ['too short', 'abc\n', /line 1: a token has at least 32 characters/],
    ['of nothing', '\n# none\n', /there is no token in it/],
  ])('does not start with a token that is %s', async (_, text, message) => {
    const file = join(process.env.TMPDIR ?? '/tmp', `holdfast-admin-bad-${process.pid}`);
    writeFileSync(file, text);
    await expect(start({ admin: { port: 0, tokenFile: file } })).rejects.toThrow(message);
  });

  test('speaks TLS when it is told to', async () => {
    const server = await start({ admin: { port: 0, tls: 'self-signed' } });
    expect(server.server.adminUrl).toMatch(/^https:/);
  });

  test('is not there with createServer where nothing is said of it', async () => {
    const server = await start({ admin: undefined } as never);
    expect([server.server.adminUrl, server.server.adminSocket]).toEqual([undefined, undefined]);
  });
});

describe('what is asked for', () => {
  test.each([
    ['an unknown path', '/v1/statu', {}, 404, 'ERR_ADMIN_NOT_FOUND'],
    ['another method', '/v1/status', { method: 'POST' }, 405, 'ERR_ADMIN_BAD_REQUEST'],
    ['an unknown parameter', '/v1/sessions?limi=3', {}, 400, 'ERR_ADMIN_BAD_REQUEST'],
    ['a parameter twice', '/v1/sessions?limit=3&limit=4', {}, 400, 'ERR_ADMIN_BAD_REQUEST'],
    ['a parameter where none is taken', '/v1/status?x=1', {}, 400, 'ERR_ADMIN_BAD_REQUEST'],
    ['a number that is too large', '/v1/sessions?limit=100000000', {}, 400, 'ERR_ADMIN_BAD_REQUEST'],
    ['a broken escape', '/v1/sessions/%ff', {}, 400, 'ERR_ADMIN_BAD_REQUEST'],
    ['a body that is no JSON', '/v1/bans', { method: 'POST', body: '{' }, 400, 'ERR_ADMIN_BAD_REQUEST'],
    ['a body that is a list', '/v1/bans', { method: 'POST', body: [] }, 400, 'ERR_ADMIN_BAD_REQUEST'],
    ['an unknown field', '/v1/bans', { method: 'POST', body: { addres: '1.2.3.4' } }, 400, 'ERR_ADMIN_BAD_REQUEST'],
    [
      'a body that is too large',
      '/v1/bans',
      { method: 'POST', body: 'x'.repeat(70_000) },
      413,
      'ERR_HTTP_BODY_TOO_LARGE',
    ],
    [
      'close frames that cannot be',
      '/v1/connections/close',
      { method: 'POST', body: { user: 'a', code: 1005 } },
      400,
      'ERR_ADMIN_BAD_REQUEST',
    ],
    ['closing without a filter', '/v1/connections/close', { method: 'POST', body: {} }, 400, 'ERR_ADMIN_BAD_REQUEST'],
    ['a reload of a server that a program has made', '/v1/reload', { method: 'POST' }, 501, 'ERR_ADMIN_NOT_SUPPORTED'],
  ])('is judged: %s', async (_, path, question, status, code) => {
    const server = await start();
    const answer = await server.askSocket(path, question);
    expect([answer.status, answer.json.code]).toEqual([status, code]);
  });

  test('names the nearest parameter and field', async () => {
    const server = await start();
    expect((await server.askSocket('/v1/sessions?limi=3')).json.message).toMatch(/did you mean "limit"/);
    const { json } = await server.askSocket('/v1/bans', { method: 'POST', body: { addres: '192.0.2.7' } });
    expect(json.message).toMatch(/did you mean "address"/);
  });
});
