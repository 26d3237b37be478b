import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { testClient } from 'holdfast/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Place, SHARED_PLACES, skipNote } from '../session/race-stores.ts';

interface ServerProcess {
  readonly child: ChildProcess;
  readonly url: string;
}

async function startServer(address: string, keyFile: string): Promise<ServerProcess> {
  const script = fileURLToPath(new URL('bans-server.ts', import.meta.url));
  const child = spawn(process.execPath, ['-C', 'holdfast-source', script, address, keyFile], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  return { child, url: (JSON.parse(line) as { url: string }).url };
}

const from = (address: string) => ({ headers: { 'X-Forwarded-For': address } });
const statusOf = async ({ url }: ServerProcess, path: string, address: string) =>
  (await fetch(url + path, from(address))).status;

describe.each(SHARED_PLACES.map(place => ({ ...place, title: `${place.name}${skipNote(place)}` })))(
  'on $title',
  ({ missing, open }) => {
    let place: Place;
    let folder: string;
    let keyFile: string;
    const servers: ServerProcess[] = [];
    const start = async () => {
      const server = await startServer(place.address, keyFile);
      servers.push(server);
      return server;
    };
    beforeAll(async () => {
      if (missing) return;
      folder = await mkdtemp(join(tmpdir(), 'holdfast-bans-'));
      keyFile = join(folder, 'key');
      await writeFile(keyFile, `${'k'.repeat(43)}\n`);
      place = await open();
    });
    afterAll(async () => {
      for (const { child } of servers) {
        child.stdin!.end();
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      }
      await place?.close();
      if (folder) await rm(folder, { recursive: true });
    });

    test.skipIf(missing)(
      'a ban that one process makes closes the sockets of the client in another within a second',
      async () => {
        const [first, second] = await Promise.all([start(), start()]);
        const dial = (address: string) =>
          testClient(`${second.url.replace('http', 'ws')}/socket`, {
            headers: { origin: second.url, 'X-Forwarded-For': address },
          });
        const [bad, good] = [await dial('192.0.2.66'), await dial('192.0.2.1')];
        const begunAt = performance.now();
        expect(await statusOf(first, '/trap', '192.0.2.66')).toBe(403);
        expect(await bad.closed).toMatchObject({ code: 1008, reason: 'banned' });
        expect(performance.now() - begunAt).toBeLessThan(1_000);
        expect(await statusOf(second, '/', '192.0.2.66')).toBe(403);
        expect(await statusOf(second, '/', '192.0.2.1')).toBe(200);
        good.close();
      },
    );

    test.skipIf(missing)('a ban outlives its process', async () => {
      const [first, second] = servers as [ServerProcess, ServerProcess];
      expect(await statusOf(first, '/trap', '2001:db8::66')).toBe(403);
      await expect.poll(() => statusOf(second, '/', '2001:db8::1')).toBe(403);
      // What others hear is written at the same time, and nothing tells when it is done.
      await new Promise(resolve => setTimeout(resolve, 500));
      for (const { child } of servers) child.kill('SIGKILL');
      const next = await start();
      expect(await statusOf(next, '/', '2001:db8::1')).toBe(403);
      expect(await statusOf(next, '/', '2001:db8:1::1')).toBe(200);
    });
  },
);
