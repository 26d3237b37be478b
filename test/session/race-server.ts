import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { attachSession } from '../../src/session/attach-session.ts';
import type { SessionManager } from '../../src/session/manager.ts';

export interface RaceServer {
  readonly url: string;
  close(): Promise<void>;
}

/** Something that a request waits for and another one lets happen. */
class Gate {
  readonly reached = Promise.withResolvers<void>();
  readonly opened = Promise.withResolvers<void>();
}

/**
 * What the race tests run, alone or in several processes. What a request does is its path; `gate` says which gate it
 * means.
 */
export async function startRaceServer(manager: SessionManager): Promise<RaceServer> {
  const gates = new Map<string, Gate>();
  const gateOf = (url: URL): Gate => {
    const name = url.searchParams.get('gate')!;
    const gate = gates.get(name) ?? new Gate();
    gates.set(name, gate);
    return gate;
  };

  async function handle(req: IncomingMessage, res: ServerResponse): Promise<unknown> {
    const url = new URL(req.url!, 'http://x');
    const value = url.searchParams.get('value')!;
    const binding = attachSession(manager, req, res);
    switch (url.pathname) {
      case '/in':
        return res.end((await binding.open()).id);
      case '/set':
        (await binding.open()).set(value, 'here');
        return res.end();
      case '/slow': {
        const session = await binding.open();
        const gate = gateOf(url);
        gate.reached.resolve();
        await gate.opened.promise;
        session.set('late', value);
        return res.end();
      }
      case '/logout':
        await (await binding.get())?.invalidate();
        return res.end();
      case '/post':
        (await binding.open()).set('written', value);
        return res.writeHead(303, { Location: '/' }).end();
      case '/both': {
        const session = await binding.open();
        session.set('first', value);
        session.set('second', value.padEnd(5_000));
        return res.end();
      }
      case '/stream':
        (await binding.open()).set('written', value);
        res.write('first byte');
        await gateOf(url).opened.promise;
        return res.end();
      case '/page':
        await binding.existing();
        return res.end();
      case '/auto':
        return res.end((await binding.auto())?.id);
      case '/reached':
        await gateOf(url).reached.promise;
        return res.end();
      case '/go':
        gateOf(url).opened.resolve();
        return res.end();
      case '/update':
        return res.end(String(await (await binding.open()).update('n', n => Number(n ?? 0) + 1)));
      case '/loop': {
        // Updates without a pause until the gate opens; says how many.
        const session = await binding.open();
        const gate = gateOf(url);
        let isOpen = false;
        void gate.opened.promise.then(() => {
          isOpen = true;
        });
        let updates = 0;
        for (; !isOpen; updates++) {
          await session.update('n', n => Number(n ?? 0) + 1);
          gate.reached.resolve();
        }
        return res.end(String(updates));
      }
      case '/statistics':
        return res.end(JSON.stringify(manager.statistics()));
      case '/statistics-of-all':
        return res.end(JSON.stringify(await manager.statisticsOfAll()));
      case '/count':
        return res.end(String(await manager.count()));
      default: {
        const session = await binding.get();
        const data = session && Object.fromEntries(session.keys().map(key => [key, session.get(key)]));
        return res.end(JSON.stringify({ id: session?.id, data }));
      }
    }
  }

  const server = http.createServer((req, res) => {
    handle(req, res).catch(error => res.writeHead(500).end(String(error)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      server.close();
      await manager.close();
    },
  };
}
