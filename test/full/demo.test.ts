import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Holdfast } from '../cli/run-holdfast.ts';
import { RawClient } from '../websocket/raw-client.ts';

let folder: string;
let program: Holdfast | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-demo-'));
});
afterEach(async () => {
  program?.kill('SIGKILL');
  await program?.ended;
  rmSync(folder, { recursive: true });
});

function demo(port: number | string): Holdfast {
  program = new Holdfast(['demo', '--port', String(port), '--data', join(folder, 'data')]);
  return program;
}

const post = (url: string, path: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${url}/${path}`, { method: 'POST', body: JSON.stringify(body), headers: { Origin: url, ...headers } });

describe('holdfast demo', () => {
  test('serves its page, signs in and tells the backend the session', async () => {
    const [, url] = await demo(0).printed(/Open {2}(http:\/\/localhost:\d+)/);
    const page = await fetch(url!);
    expect(page.headers.get('Content-Type')).toMatch(/^text\/html/);
    expect(await page.text()).toContain('Connections drop. Sessions hold.');
    const signedIn = await post(url!, 'signin', { name: ' Ada ' });
    expect(signedIn.status).toBe(200);
    const { name, session } = (await signedIn.json()) as { name: string; session: string };
    expect(name).toBe('Ada');
    const cookie = signedIn.headers.getSetCookie().at(-1)!.split(';')[0]!;
    const backend = await fetch(`${url}/backend/facts`, { headers: { Cookie: cookie, 'X-Session-ID': 'forged' } });
    const facts = (await backend.json()) as { session: string };
    expect(facts.session).toHaveLength(22);
    expect(facts.session.slice(0, 8)).toBe(session);
  });

  test('speaks TLS and HTTP/2 with a certificate that it makes', async () => {
    program = new Holdfast(['demo', '--port', '0', '--tls', '--data', join(folder, 'data')]);
    const [, url] = await program.printed(/Open {2}(https:\/\/localhost:\d+)/);
    const session = connect(url!, { ca: readFileSync(join(folder, 'data', 'development.crt')) });
    const stream = session.request({ ':path': '/' });
    const [{ ':status': status }] = await once(stream, 'response');
    session.destroy();
    expect(status).toBe(200);
  });

  test('refuses what is not a name, and opens no session for it', async () => {
    const [, url] = await demo(0).printed(/Open {2}(http:\/\/localhost:\d+)/);
    for (const name of ['', '  ', 'x'.repeat(33), 'a\u0007b', 5, undefined]) {
      const response = await post(url!, 'signin', { name });
      expect([name, response.status, response.headers.getSetCookie()]).toEqual([name, 400, []]);
    }
  });

  test('gives who signs in with the session of somebody else one of their own, and ends the other', async () => {
    const [, url] = await demo(0).printed(/Open {2}(http:\/\/localhost:\d+)/);
    const cookieOf = (response: Response) => response.headers.getSetCookie().at(-1)!.split(';')[0]!;
    const planted = cookieOf(await post(url!, 'signin', { name: 'Mallory' }));
    using socket = await RawClient.connect(`${url!.replace('http', 'ws')}/chat/lobby`, {
      headers: [`Cookie: ${planted}`, `Origin: ${url}`],
    });
    expect(socket.status).toBe(101);
    const own = cookieOf(await post(url!, 'signin', { name: 'Ada' }, { Cookie: planted }));
    expect(await socket.eventualCloseCode()).toBe(1008);
    const names = [planted, own].map(async Cookie => (await fetch(`${url}/me`, { headers: { Cookie } })).json());
    expect(await Promise.all(names)).toMatchObject([{ name: null }, { name: 'Ada' }]);
  });

  test('says what to do when the port is taken, and leaves no backend behind', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await new Promise(resolve => other.once('listening', resolve));
    const { port } = other.address() as AddressInfo;
    const { ended, stderr } = await demo(port).ended.then(code => ({ ended: code, stderr: program!.stderr }));
    expect(ended).toBe(1);
    expect(stderr).toMatch(new RegExp(`port ${port}: (?:another program|process \\d+ .*) listens there`));
    expect(stderr).toMatch(/Choose another port with --port/);
    other.close();
  });

  test('refuses what is not a port', async () => {
    expect(await demo('eighty').ended).toBe(2);
    expect(program!.stderr).toBe('holdfast: demo: "eighty" is not a port; write a number from 0 to 65535\n');
  });
});
