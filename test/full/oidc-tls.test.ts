import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createAuthority, createCertificate } from '../self-signed-certificate.ts';
import { CookieClient } from '../services/cookie-client.ts';
import { freePort } from '../services/free-port.ts';
import { CLIENT_SECRET, OidcProvider } from '../services/oidc-provider.ts';

const PROGRAM = fileURLToPath(new URL('oidc-server.ts', import.meta.url));

describe('a provider that speaks TLS, by a certificate of an authority of its own', () => {
  let folder: string;
  let provider: OidcProvider;
  let port: number;
  let child: ChildProcess | undefined;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-oidc-tls-'));
    const authority = createAuthority('Provider CA');
    writeFileSync(join(folder, 'ca.crt'), authority.certificate);
    writeFileSync(join(folder, 'key'), `${'k'.repeat(43)}\n`);
    writeFileSync(join(folder, 'secret'), CLIENT_SECRET);
    port = await freePort();
    const tls = createCertificate({ name: 'localhost', authority });
    provider = await OidcProvider.start({ clients: [`http://localhost:${port}`], tls });
  });
  afterAll(async () => {
    await provider.close();
    rmSync(folder, { recursive: true });
  });

  async function start(environment: Record<string, string> = {}): Promise<void> {
    const args = ['memory:', join(folder, 'key'), String(port), provider.issuer, join(folder, 'secret')];
    child = spawn(process.execPath, ['-C', 'holdfast-source', PROGRAM, ...args], {
      stdio: ['pipe', 'pipe', 'ignore'],
      env: { ...process.env, ...environment },
    });
    await once(createInterface(child.stdout!), 'line');
  }
  async function stop(): Promise<void> {
    child!.stdin!.end();
    await once(child!, 'exit');
  }

  test('signs users in where Node believes the authority', async () => {
    await start({ NODE_EXTRA_CA_CERTS: join(folder, 'ca.crt') });
    const client = new CookieClient();
    const page = await client.open(`http://localhost:${port}/cart`);
    expect(page.url.pathname).toBe('/cart');
    expect(JSON.parse(page.body)).toEqual({ name: 'alice', email: 'alice@example.com' });
    expect(client.opened.some(url => url.startsWith(`${provider.issuer}/auth`))).toBe(true);
    await stop();
  });

  test('is 503 where it does not, is asked for nothing, and nobody is led to it', async () => {
    provider.reset();
    await start();
    const client = new CookieClient();
    const page = await client.open(`http://localhost:${port}/cart`);
    expect([page.status, page.url.hostname]).toEqual([503, 'localhost']);
    expect(provider.requests).toEqual([]);
    await stop();
  });
});
