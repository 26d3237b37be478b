import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { Holdfast } from '../cli/run-holdfast.ts';
import { ServletBackend } from '../gateway/servlet-backend.ts';
import { SHARED_PLACES, skipNote } from '../session/race-stores.ts';

describe.each(SHARED_PLACES.map(place => ({ ...place, title: `${place.name}${skipNote(place)}` })))(
  'two processes of "holdfast serve" on $title',
  ({ missing, open }) => {
    test.skipIf(missing)(
      'agree on the sessions of a backend: a logout through one closes the sockets of both, and kill -9 forgets nothing',
      async () => {
        await using stack = new AsyncDisposableStack();
        const folder = await mkdtemp(join(tmpdir(), 'holdfast-observed-'));
        stack.defer(() => rm(folder, { recursive: true }));
        const place = await open();
        stack.defer(() => place.close());
        const backend = await ServletBackend.start();
        stack.defer(() => backend.close());
        await writeFile(join(folder, 'key'), 'k'.repeat(43));
        await writeFile(
          join(folder, 'holdfast.yaml'),
          `listen: [{ port: 0, host: 127.0.0.1 }]
session: { store: '${place.address}', keyFiles: [key] }
upstreams:
  app: { servers: ['${backend.url}'], session: { mode: observed, cookie: JSESSIONID } }
routes: [{ path: /*, upstream: app, policy: { origins: any } }]
`,
        );
        const serve = async () => {
          const program = new Holdfast(['serve'], { cwd: folder });
          stack.defer(async () => {
            program.kill('SIGKILL');
            await program.ended;
          });
          const [, url] = await program.printed(/listening on (http:\/\/\S+)/);
          return { program, url: url! };
        };
        const visit = async (url: string, path: string, cookie?: string) => {
          const headers = cookie === undefined ? {} : { cookie };
          const answer = await fetch(new URL(path, url), { headers, redirect: 'manual' });
          return answer.headers.getSetCookie()[0]?.split(';')[0];
        };
        const socket = async (url: string, cookie: string) => {
          const client = new WebSocket(url.replace('http', 'ws'), { headers: { cookie } });
          const closed = once(client, 'close').then(([code]) => code as number);
          await once(client, 'open');
          return { closed };
        };
        const told = async (url: string, cookie: string) => {
          await visit(url, '/public', cookie);
          return backend.told.at(-1);
        };

        const [one, two] = await Promise.all([serve(), serve()]);
        const alice = (await visit(one.url, '/'))!;
        const bob = (await visit(one.url, '/'))!;
        expect(await told(two.url, alice)).toBe(alice.split('=')[1]);
        const sockets = await Promise.all([one, two, two].map(({ url }) => socket(url, alice)));

        // The one that has seen it all is gone, and another takes its place.
        one.program.kill('SIGKILL');
        expect(await sockets[0]!.closed).toBe(1006);
        const three = await serve();
        expect(await told(three.url, bob)).toBe(bob.split('=')[1]);
        sockets.push(await socket(three.url, alice));
        await visit(three.url, '/logout', alice);
        expect(await Promise.all(sockets.slice(1).map(({ closed }) => closed))).toEqual([1008, 1008, 1008]);
        for (const { url } of [two, three]) expect(await told(url, alice)).toBeUndefined();

        const renewed = (await visit(two.url, '/login', bob))!;
        expect(await told(three.url, renewed)).toBe(renewed.split('=')[1]);
        await expect.poll(() => told(three.url, bob)).toBeUndefined();
      },
    );
  },
);
