import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { doctorOf } from '../cli/doctor-of.ts';
import { echoServer, httpServer, rawServer, TestServer } from '../cli/doctor-servers.ts';
import { runHoldfast } from '../cli/run-holdfast.ts';
import { createAuthority, writeCertificate } from '../self-signed-certificate.ts';
import { freePort } from '../services/free-port.ts';
import { missing, type RunningProxy, startProxy } from '../services/proxies.ts';
import { pythonMissing, startPython } from './doctor-python.ts';

/** What the guide has its reader switch on, and what its examples need. */
const MODULES = [
  ...['mpm_event', 'authz_core', 'authz_host', 'authn_core', 'authn_file', 'authz_user', 'auth_basic'],
  ...['headers', 'rewrite', 'socache_shmcb', 'ssl', 'proxy', 'proxy_http', 'proxy_wstunnel'],
];
const without = (...names: string[]) => MODULES.filter(name => !names.includes(name));

const apache = (vhost: (port: number) => string, modules: readonly string[] = MODULES): Promise<RunningProxy> =>
  startProxy('apache', port => `<VirtualHost 127.0.0.1:${port}>\n${vhost(port)}\n</VirtualHost>`, modules);

/** What the doctor finds of the WebSocket behind an Apache. */
async function foundBehind(
  lines: string,
  { modules, ...options }: Parameters<typeof doctorOf>[1] & { modules?: readonly string[] } = {},
) {
  await using proxy = await apache(() => lines, modules);
  return await doctorOf(`ws://127.0.0.1:${proxy.port}/socket`, options);
}

/** A page and a WebSocket for those who bring the cookie `SESSIONID=known`; a new one for others. */
const signedIn = ({ headers }: IncomingMessage) => /(?:^|; )SESSIONID=known/.test(headers.cookie ?? '');

const reason = missing('apache');
describe.skipIf(reason)(reason ?? 'behind Apache', () => {
  let backend: TestServer;
  let session: TestServer;
  beforeAll(async () => {
    backend = await echoServer();
    session = await echoServer({
      onRequest: (request, response) => {
        if (!signedIn(request)) response.setHeader('Set-Cookie', 'SESSIONID=new; Path=/; HttpOnly');
        response.writeHead(200).end();
      },
      refuse: request => (signedIn(request) ? 0 : 401),
    });
  });
  afterAll(async () => {
    await backend[Symbol.asyncDispose]();
    await session[Symbol.asyncDispose]();
  });

  describe('the WebSocket does not open', () => {
    test('mod_proxy_wstunnel is not enabled', async () => {
      const { codes, said } = await foundBehind(`ProxyPass /socket ws://127.0.0.1:${backend.port}/socket`, {
        modules: without('proxy_wstunnel', 'proxy_http'),
      });
      expect(codes).toEqual(['module-missing']);
      expect(said('handshake')).toBe('fail answered with 500 instead of 101');
    });

    test('mod_proxy is not enabled, and its lines stand in an IfModule', async () => {
      const lines = `<IfModule proxy_module>\nProxyPass /socket ws://127.0.0.1:${backend.port}/socket\n</IfModule>`;
      const { codes } = await foundBehind(lines, { modules: without('proxy', 'proxy_wstunnel', 'proxy_http') });
      expect(codes).toEqual(['path-unknown']);
    });

    test('ProxyPass with http:// has no upgrade=websocket', async () => {
      const { codes } = await foundBehind(`ProxyPass /socket http://127.0.0.1:${backend.port}/socket`);
      expect(codes).toEqual(['upgrade-lost']);
    });

    test('a shorter ProxyPass stands before that of the WebSocket', async () => {
      const to = `http://127.0.0.1:${backend.port}`;
      const { codes } = await foundBehind(`ProxyPass / ${to}/\nProxyPass /socket ${to}/socket upgrade=websocket`);
      expect(codes).toEqual(['upgrade-lost']);
    });

    test('no ProxyPass covers the path', async () => {
      const { codes } = await foundBehind(`ProxyPass /sockets ws://127.0.0.1:${backend.port}/socket`);
      expect(codes).toEqual(['path-unknown']);
    });

    test('Apache is not started', async () => {
      expect((await doctorOf(`ws://127.0.0.1:${await freePort()}/socket`)).codes).toEqual(['port-closed']);
    });

    test.skipIf(pythonMissing)('a firewall drops what is sent', async () => {
      await using silent = await startPython('silent');
      const { codes, said } = await doctorOf(`ws://127.0.0.1:${silent.port}/socket`, { timeoutMs: 500 });
      expect(codes).toEqual(['port-silent']);
      expect(said('tcp')).toMatch(/no answer within 500 ms$/);
    });

    test('the backend does not run: 503', async () => {
      const { codes } = await foundBehind(`ProxyPass /socket ws://127.0.0.1:${await freePort()}/socket`);
      expect(codes).toEqual(['backend-unavailable']);
    });

    test('the backend hangs up: 502', async () => {
      await using hangsUp = await rawServer(socket => void socket.once('data', () => socket.end()));
      const { codes } = await foundBehind(`ProxyPass /socket ws://127.0.0.1:${hangsUp.port}/socket`);
      expect(codes).toEqual(['backend-broken']);
    });

    test('the backend does not answer: Apache says 502 after its timeout', async () => {
      await using hangs = await httpServer(() => {});
      const to = `http://127.0.0.1:${hangs.port}/socket upgrade=websocket`;
      const { codes } = await foundBehind(`ProxyTimeout 1\nProxyPass /socket ${to}`, { timeoutMs: 4_000 });
      expect(codes).toEqual(['backend-broken']);
    });

    test('the handshake is redirected to https', async () => {
      const { codes, said } = await foundBehind(
        'RewriteEngine On\nRewriteRule ^ https://example.com%{REQUEST_URI} [R=301]',
      );
      expect(codes).toEqual(['redirected']);
      expect(said('handshake')).toBe('fail answered with 301 instead of 101: redirected to https://example.com/socket');
    });

    test('a password is asked for', async () => {
      const { codes, said } = await foundBehind(
        '<Location />\nAuthType Basic\nAuthName "WebSocket Authentication"\nAuthUserFile /dev/null\nRequire valid-user\n</Location>',
      );
      expect(codes).toEqual(['credentials-required']);
      expect(said('handshake')).toBe('fail answered with 401 instead of 101; it asks for Basic authentication');
    });

    test('the address is not among those that may come in', async () => {
      const { codes } = await foundBehind('<Location />\nRequire ip 192.168.0.0/24\n</Location>');
      expect(codes).toEqual(['forbidden']);
    });

    test('the backend compares the origin with a Host that Apache has replaced', async () => {
      await using strict = await echoServer({
        refuse: ({ headers }) => (headers.origin && headers.origin !== `http://${headers.host}` ? 403 : 0),
      });
      const pass = `ProxyPass /socket ws://127.0.0.1:${strict.port}/socket`;
      expect((await foundBehind(pass)).codes).toEqual(['origin-refused']);
      expect((await foundBehind(`ProxyPreserveHost On\n${pass}`)).codes).toEqual([]);
    });
  });

  describe('the session is not kept', () => {
    const cookie = 'SESSIONID=known';

    test('the Set-Cookie line of the guide makes a session of nothing', async () => {
      const { codes, said } = await foundBehind(
        `RewriteEngine On
        RewriteCond %{HTTP:Cookie} ^.*SESSIONID=([^;]+)
        RewriteRule .* - [E=SESSION_ID:%1]
        Header always set Set-Cookie "SESSIONID=%{SESSION_ID}e; Path=/; HttpOnly; Secure"
        ProxyPass /socket http://127.0.0.1:${backend.port}/socket upgrade=websocket`,
      );
      expect(codes).toEqual(['cookie-null', 'cookie-secure-on-http']);
      expect(said('cookie')).toContain('set: SESSIONID; Path=/; HttpOnly; Secure');
    });

    test('the cookie is for the path that only the backend knows', async () => {
      await using app = await echoServer({
        onRequest: (_, response) => void response.setHeader('Set-Cookie', 'JSESSIONID=1; Path=/app; HttpOnly').end(),
      });
      const to = `http://127.0.0.1:${app.port}/app upgrade=websocket`;
      expect((await foundBehind(`ProxyPass /socket ${to}`)).codes).toEqual(['cookie-path']);
      const mended = await foundBehind(`ProxyPass /socket ${to}\nProxyPassReverseCookiePath /app /`);
      expect(mended.codes).toEqual([]);
    });

    test('Secure is set where the page comes by http', async () => {
      const { codes } = await foundBehind(
        `Header edit Set-Cookie ^(.*)$ "$1; Secure"\nProxyPass /socket http://127.0.0.1:${session.port}/socket upgrade=websocket`,
      );
      expect(codes).toContain('cookie-secure-on-http');
    });

    test('the cookie is taken away at the path of the WebSocket, or in the handshake only', async () => {
      const pass = `ProxyPass /socket http://127.0.0.1:${session.port}/socket upgrade=websocket`;
      expect((await foundBehind(pass, { cookie })).codes).toEqual(['origin-open']);
      const lost = `RequestHeader unset Cookie "expr=%{HTTP:Upgrade} == 'websocket'"\n${pass}`;
      expect((await foundBehind(lost, { cookie })).codes).toEqual(['session-not-handed-on']);
    });

    test('the RewriteCond names another cookie than the application sets', async () => {
      await using app = await echoServer({
        onRequest: (request, response) => void response.writeHead(signedIn(request) ? 200 : 401).end(),
        refuse: ({ headers }) => (headers['x-session-id'] === 'known' ? 0 : 401),
      });
      const lines = (name: string) => `RewriteEngine On
        RewriteCond %{HTTP:Cookie} ${name}=([^;]+)
        RewriteRule .* - [E=SESSION_ID:%1]
        RequestHeader set X-Session-ID %{SESSION_ID}e env=SESSION_ID
        ProxyPass /socket http://127.0.0.1:${app.port}/socket upgrade=websocket`;
      expect((await foundBehind(lines('SESSION_ID'), { cookie })).codes).toEqual(['session-not-handed-on']);
      expect((await foundBehind(lines('SESSIONID'), { cookie })).said('handshake')).toMatch(/^ok 101/);
    });

    test('the session has ended: the application gives a new one', async () => {
      const pass = `ProxyPass /socket http://127.0.0.1:${session.port}/socket upgrade=websocket`;
      const { codes } = await foundBehind(pass, { cookie: 'SESSIONID=old' });
      expect(codes).toContain('session-unknown');
    });

    test('two backends have sessions of their own, and Apache takes them in turn', async () => {
      const application = (name: string) =>
        echoServer({
          onRequest: ({ headers }, response) => {
            if (!headers.cookie?.includes(`SESSIONID=${name}`))
              response.setHeader('Set-Cookie', `SESSIONID=${name}-${Math.random()}; Path=/; HttpOnly`);
            response.writeHead(200).end();
          },
        });
      await using one = await application('one');
      await using two = await application('two');
      const { codes } = await foundBehind(
        `<Proxy balancer://app>
          BalancerMember http://127.0.0.1:${one.port}
          BalancerMember http://127.0.0.1:${two.port}
        </Proxy>
        ProxyPass /socket balancer://app/socket`,
        { modules: [...MODULES, 'slotmem_shm', 'lbmethod_byrequests', 'proxy_balancer'] },
      );
      expect(codes).toContain('session-not-kept');
    });
  });

  describe('wss:// is cut or refused', () => {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-doctor-'));
    afterAll(() => rmSync(folder, { recursive: true }));
    const authority = createAuthority('Doctors');
    const ca = authority.certificate;
    const inDays = (days: number) => Math.floor(Date.now() / 1000) * 1000 + days * 86_400_000;
    const tls = (name: string, days: number, isSigned = true) => {
      const { certificate, key } = writeCertificate(folder, {
        name,
        validTo: inDays(days),
        ...(isSigned && { authority }),
      });
      return `SSLEngine on\nSSLCertificateFile ${certificate}\nSSLCertificateKeyFile ${key}`;
    };
    const pass = (scheme = 'ws') => `ProxyPass /socket ${scheme}://127.0.0.1:${backend.port}/socket`;
    const foundByTls = async (lines: string, options: Parameters<typeof doctorOf>[1] = {}) => {
      await using proxy = await apache(() => lines);
      return await doctorOf(`wss://localhost:${proxy.port}/socket`, { ca, ...options });
    };

    test('nothing is wrong with a good certificate', async () => {
      expect((await foundByTls(`${tls('localhost', 90)}\n${pass()}`)).codes).toEqual([]);
    });

    test('the certificate is over', async () => {
      expect((await foundByTls(`${tls('localhost', -1)}\n${pass()}`)).codes).toEqual(['certificate-expired']);
    });

    test('the certificate is for another name', async () => {
      expect((await foundByTls(`${tls('other.example', 90)}\n${pass()}`)).codes).toEqual(['certificate-name']);
    });

    test('the certificate is signed with itself', async () => {
      expect((await foundByTls(`${tls('localhost', 90, false)}\n${pass()}`)).codes).toEqual(['certificate-untrusted']);
    });

    test('SSLEngine is missing', async () => {
      expect((await foundByTls(pass())).codes).toEqual(['tls-not-spoken']);
    });

    test('the page says ws:// for a port with TLS', async () => {
      await using proxy = await apache(() => `${tls('localhost', 90)}\n${pass()}`);
      expect((await doctorOf(`ws://localhost:${proxy.port}/socket`)).codes).toEqual(['tls-expected']);
    });

    test('ProxyPass says wss:// to a backend without TLS', async () => {
      const { codes } = await foundByTls(`${tls('localhost', 90)}\nSSLProxyEngine on\n${pass('wss')}`);
      expect(codes).toEqual(['backend-broken']);
    });

    test('ProxyPass says wss:// and SSLProxyEngine is missing', async () => {
      const { codes } = await foundByTls(`${tls('localhost', 90)}\n${pass('wss')}`);
      expect(codes).toEqual(['module-missing']);
    });

    test('a client certificate is required', async () => {
      const authorityFile = writeCertificate(folder, { name: 'clients', validTo: inDays(90) }).certificate;
      const lines = `${tls('localhost', 90)}\nSSLVerifyClient require\nSSLCACertificateFile ${authorityFile}\n${pass()}`;
      expect((await foundByTls(lines)).codes).toEqual(['client-certificate-required']);
    });

    test('a WebSocket that is silent is cut by Timeout, and pings keep it open', async () => {
      const lines = `${tls('localhost', 90)}\nTimeout 1\nProxyTimeout 1\n${pass()}`;
      const { codes, said } = await foundByTls(lines, { idleMs: 3_000 });
      expect(codes).toEqual(['idle-cut']);
      expect(said('idle')).toMatch(
        /^fail cut without a close frame \(1006\) after (9\d\d ms|\d\.\d s) of silence; with pings of ours it stays open/,
      );
    });

    test('RequestReadTimeout does not cut a WebSocket', async () => {
      await using proxy = await apache(
        () => `RequestReadTimeout header=5 body=1\n${pass()}`,
        [...MODULES, 'reqtimeout'],
      );
      const { codes } = await doctorOf(`ws://127.0.0.1:${proxy.port}/socket`, { idleMs: 2_500 });
      expect(codes).toEqual([]);
    });
  });

  test('the program says what to do in Apache, ends with 1, and prints the same for programs', async () => {
    await using proxy = await apache(
      () => `ProxyPass /socket ws://127.0.0.1:${backend.port}/socket`,
      [...without('proxy_wstunnel', 'proxy_http')],
    );
    const url = `ws://127.0.0.1:${proxy.port}/socket?token=secret`;
    const people = await runHoldfast(['doctor', url, '--cookie', 'SESSIONID=secret']);
    expect([people.code, people.stderr]).toEqual([1, '']);
    expect(people.stdout).toContain('module-missing: The server fails by itself');
    expect(people.stdout).toMatch(/ {2}Apache: {3}AH01144.*a2enmod proxy_wstunnel/);
    expect(people.stdout).not.toContain('nginx:');
    expect(people.stdout).not.toContain('secret');
    const programs = await runHoldfast(['doctor', url, '--json']);
    expect(programs.code).toBe(1);
    expect(JSON.parse(programs.stdout)).toMatchObject({
      url: `ws://127.0.0.1:${proxy.port}/socket?...`,
      server: expect.stringContaining('Apache'),
      findings: [{ code: 'module-missing', apache: expect.stringContaining('a2enmod') }],
    });
  });
});

const nginxReason = missing('nginx');
describe.skipIf(nginxReason)(nginxReason ?? 'behind nginx', () => {
  const UPGRADE =
    'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";';
  const found = async (port: number, lines: string, options?: Parameters<typeof doctorOf>[1]) => {
    await using proxy = await startProxy(
      'nginx',
      at => `server { listen 127.0.0.1:${at}; location / { proxy_pass http://127.0.0.1:${port}; ${lines} } }`,
    );
    return await doctorOf(`ws://127.0.0.1:${proxy.port}/socket`, options);
  };

  test('the lines for upgrades are missing', async () => {
    await using backend = await echoServer();
    expect((await found(backend.port, '')).codes).toEqual(['upgrade-lost']);
  });

  test('the backend does not run: 502', async () => {
    expect((await found(await freePort(), UPGRADE)).codes).toEqual(['backend-broken']);
  });

  test('the backend does not answer: 504', async () => {
    await using hangs = await new TestServer(createServer(() => {}).on('upgrade', () => {})).listen();
    const { codes } = await found(hangs.port, `${UPGRADE} proxy_read_timeout 1s;`, { timeoutMs: 4_000 });
    expect(codes).toEqual(['backend-slow']);
  });

  test('a WebSocket that is silent is cut by proxy_read_timeout', async () => {
    await using backend = await echoServer();
    const { codes } = await found(backend.port, `${UPGRADE} proxy_read_timeout 1s;`, { idleMs: 3_000 });
    expect(codes).toEqual(['idle-cut']);
  });
});
