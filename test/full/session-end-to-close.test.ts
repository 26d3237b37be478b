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

const SESSIONS = 100;
const SOCKETS_PER_PROCESS = 500;
/** The design's figure. */
const LIMIT_MS = 1_000;
/** Long enough for all sockets to be opened and the other sessions to be ended before these expire by themselves. */
const IDLE_MS = 10_000;

interface End {
  readonly sid: string;
  readonly reason: string;
  readonly at: number;
}

interface ServerProcess {
  readonly child: ChildProcess;
  readonly url: string;
  /** The ends that this process has claimed. */
  readonly ends: End[];
}

interface Held {
  readonly sid: string;
  readonly user: string;
  readonly cookie: string;
}

const now = () => performance.timeOrigin + performance.now();

async function startServer(address: string, keyFile: string): Promise<ServerProcess> {
  const script = fileURLToPath(new URL('session-end-server.ts', import.meta.url));
  const child = spawn(process.execPath, ['-C', 'holdfast-source', script, address, keyFile], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const reader = createInterface(child.stdout);
  const [line] = (await once(reader, 'line')) as [string];
  const ends: End[] = [];
  reader.on('line', text => ends.push(JSON.parse(text) as End));
  return { child, url: (JSON.parse(line) as { url: string }).url, ends };
}

describe.each(SHARED_PLACES.map(place => ({ ...place, title: `${place.name}${skipNote(place)}` })))(
  'on $title',
  ({ name, missing, open }) => {
    let place: Place;
    let folder: string;
    let servers: ServerProcess[] = [];
    beforeAll(async () => {
      if (missing) return;
      folder = await mkdtemp(join(tmpdir(), 'holdfast-end-'));
      const keyFile = join(folder, 'key');
      await writeFile(keyFile, `${'k'.repeat(43)}\n`);
      place = await open();
      servers = await Promise.all([startServer(place.address, keyFile), startServer(place.address, keyFile)]);
    });
    afterAll(async () => {
      for (const { child } of servers) {
        child.stdin!.end();
        await once(child, 'exit');
      }
      await place?.close();
      if (folder) await rm(folder, { recursive: true });
    });

    test.skipIf(missing)(
      'every socket of a session that ends is closed with 1008, in both processes, within a second',
      async () => {
        const sessions: Held[] = [];
        for (let index = 0; index < SESSIONS; index++) {
          // The last third is left alone until it expires.
          const idle = index >= SESSIONS * (2 / 3) ? `&idleMs=${IDLE_MS}` : '';
          const user = `user-${index}`;
          const answer = await fetch(`${servers[index % 2]!.url}/in?user=${user}${idle}`);
          const cookie = answer.headers.getSetCookie()[0]!.split(';', 1)[0]!;
          sessions.push({ sid: await answer.text(), user, cookie });
        }

        const closes: { readonly sid: string; readonly code: number; readonly at: number }[] = [];
        const closed: Promise<void>[] = [];
        for (const { url } of servers) {
          for (let index = 0; index < SOCKETS_PER_PROCESS; index++) {
            const { sid, cookie } = sessions[index % SESSIONS]!;
            const socket = await testClient(`${url.replace('http', 'ws')}/socket`, {
              headers: { cookie, origin: url },
            });
            closed.push(
              socket.closed.then(({ code }) => {
                closes.push({ sid, code, at: now() });
              }),
            );
          }
        }
        expect(closes).toEqual([]);

        const endedAt = new Map<string, number>();
        const reasons = new Map<string, string>();
        for (const [index, { sid, user, cookie }] of sessions.entries()) {
          if (index >= SESSIONS * (2 / 3)) continue;
          const { url } = servers[index % 2]!;
          // From when it was asked for, so that the store's part is in it.
          endedAt.set(sid, now());
          if (index % 3 > 0) await fetch(`${url}/out`, { headers: { cookie } });
          else expect(await (await fetch(`${url}/end?user=${user}`)).text()).toBe('1');
        }
        await Promise.all(closed);

        // Each ended once, in one of the processes; of those that expired this is when.
        for (const { sid, reason, at } of servers.flatMap(({ ends }) => ends)) {
          expect(reasons.has(sid), sid).toBe(false);
          reasons.set(sid, reason);
          if (!endedAt.has(sid)) endedAt.set(sid, at);
        }
        expect(reasons.size).toBe(SESSIONS);
        expect(closes.length).toBe(SOCKETS_PER_PROCESS * servers.length);
        expect(closes.filter(({ code }) => code !== 1008)).toEqual([]);
        for (const kind of ['logout', 'admin', 'expired']) {
          const times = closes
            .filter(({ sid }) => reasons.get(sid) === kind)
            .map(({ sid, at }) => at - endedAt.get(sid)!);
          times.sort((a, b) => a - b);
          const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))]!;
          const figures = [at(0.5), at(0.99), at(1)].map(ms => `${ms.toFixed(1)} ms`);
          console.log(`${name}, ${kind}: ${times.length} sockets closed; p50, p99, max: ${figures.join(', ')}`);
          expect(times.length).toBeGreaterThan(200);
          expect(at(0.99)).toBeLessThan(LIMIT_MS);
        }
      },
    );
  },
);
