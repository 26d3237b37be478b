import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Beside, measure, type OpenStore } from '../../bench/large-attribute.ts';
import { SessionManager } from '../../src/session/manager.ts';
import { connect, PLACES, type Place, skipNote } from '../session/race-stores.ts';

const REQUESTS = 200;

/** Passes a TCP connection on, and counts what the server sends. */
class Counter {
  bytes = 0;
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();

  constructor(target: number) {
    this.#server = net.createServer(client => {
      const server = net.connect(target, '127.0.0.1');
      for (const socket of [client, server]) this.#sockets.add(socket.on('error', () => {}));
      server.on('data', chunk => {
        this.bytes += chunk.length;
      });
      client.pipe(server).pipe(client);
    });
  }

  async listen(): Promise<number> {
    await once(this.#server.listen(0, '127.0.0.1'), 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

describe.each(PLACES.map(place => ({ ...place, title: `${place.name}${skipNote(place)}` })))(
  'a request that touches a counter, on $title',
  ({ name, missing, open }) => {
    let place: Place;
    let counter: Counter | undefined;
    let openStore: OpenStore;
    beforeAll(async () => {
      if (missing) return;
      place = await open();
      let { address } = place;
      if (/^(?:redis|postgres)/.test(address)) {
        const url = new URL(address);
        counter = new Counter(Number(url.port));
        url.port = String(await counter.listen());
        address = url.href;
      }
      const shared = name === 'memory' ? await connect(address) : undefined;
      openStore = async () => shared ?? connect(address);
    });
    afterAll(async () => {
      counter?.close();
      await place?.close();
    });
    const create = (options: ConstructorParameters<typeof SessionManager>[0]) => new SessionManager(options);

    test.skipIf(missing).each(['get and set', 'update'] as const)(
      'by %s fetches as much beside 900 KB that lie apart as beside nothing, in about the same time',
      async touch => {
        const costs = await measure(openStore, create, ['nothing', 'apart'], touch, REQUESTS);
        const [nothing, apart] = costs as [(typeof costs)[0], (typeof costs)[0]];
        expect(nothing.bytes).toBeGreaterThan(0);
        expect(apart.bytes).toBe(nothing.bytes);
        // The median of a busy machine; what it is on a quiet one says bench/large-attribute.ts.
        expect(apart.ms / nothing.ms).toBeLessThan(2);
      },
    );

    test.skipIf(missing || !['redis', 'postgres'].includes(name))('sends hardly more over the wire', async () => {
      const requests = 60;
      const sent = async (beside: Beside) => {
        const before = counter!.bytes;
        await measure(openStore, create, [beside], 'get and set', requests - 20); // and 20 before they count
        return (counter!.bytes - before) / requests;
      };
      const nothing = await sent('nothing');
      // Its name, its version and its size.
      expect((await sent('apart')) - nothing).toBeLessThan(200);
      // The first one may find the session as its own process has left it.
      expect(await sent('inline')).toBeGreaterThanOrEqual((900_000 * (requests - 1)) / requests);
    });
  },
);
