// What a request costs that touches a counter beside a large attribute: bytes of values fetched from the store, and
// time. Two managers take turns, as two processes do, so that each request finds the session changed by the other and
// reads it. Run it with the places to measure, and for a figure of before with the checkout of before:
//
//   node -C holdfast-source bench/large-attribute.ts memory: lmdb:/tmp/bench redis://127.0.0.1:6379 postgres://…
//   node -C holdfast-source bench/large-attribute.ts --checkout ../before lmdb:/tmp/bench
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { SessionManager, SessionManagerOptions, SessionStore } from 'holdfast/session';

const LARGE = 'x'.repeat(900_000);
const KEY = 'a key for benchmarks, of at least 32 bytes';
const REQUEST = { isSecure: false, isDocumentNavigation: false };

/** Where sessions are kept, opened anew for each manager. */
export type OpenStore = () => Promise<Pick<SessionManagerOptions, 'store' | 'ledger'>>;
export type CreateManager = (options: SessionManagerOptions) => SessionManager;

/**
 * What lies beside the counter: nothing, with and without a list of what lies apart, or the large attribute, apart or
 * read with its session.
 */
export type Beside = 'nothing' | 'nothing, no list' | 'apart' | 'inline';
/** How the counter is touched. */
export type Touch = 'get and set' | 'update';

/** Of one request. */
export interface Cost {
  readonly bytes: number;
  /** The median. */
  readonly ms: number;
}

/** Those of each case take turns, so that all have the same machine. */
export async function measure(
  open: OpenStore,
  create: CreateManager,
  cases: readonly Beside[],
  touch: Touch,
  requests: number,
): Promise<Cost[]> {
  const sites = await Promise.all(cases.map(beside => Site.open(open, create, beside)));
  try {
    for (const site of sites) await site.run(touch, 20); // compiled by then
    for (const site of sites) site.reset();
    for (let round = 0; round < requests / 20; round++) for (const site of sites) await site.run(touch, 20);
    return sites.map(site => site.cost());
  } finally {
    for (const site of sites) await site.close();
  }
}

interface Counter {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  update(name: string, change: (before: unknown) => unknown): Promise<unknown>;
}

class Site {
  readonly #managers: readonly SessionManager[];
  readonly #cookie: string;
  #times: number[] = [];
  #bytesBefore = 0;
  #turn = 0;

  private constructor(managers: readonly SessionManager[], cookie: string) {
    this.#managers = managers;
    this.#cookie = cookie;
  }

  static async open(open: OpenStore, create: CreateManager, beside: Beside): Promise<Site> {
    const managers: SessionManager[] = [];
    for (const backend of [await open(), await open()])
      managers.push(
        create({
          ...backend,
          keys: [KEY],
          cookie: { name: 'sid' },
          ...((beside === 'nothing' || beside === 'apart') && { attributes: { report: 'apart' } }),
        }),
      );
    const binding = managers[0]!.bind({ ...REQUEST, cookieHeader: undefined });
    const session = (await binding.open()) as unknown as Counter;
    session.set('counter', 0);
    if (beside === 'apart' || beside === 'inline') session.set('report', LARGE);
    await binding.commit();
    const cookie = binding.responseHeaders()[0]!.value.split(';')[0]!;
    binding.release();
    return new Site(managers, cookie);
  }

  get #bytes(): number {
    return this.#managers.reduce((sum, manager) => sum + manager.statistics().reads.bytes, 0);
  }

  reset(): void {
    this.#times = [];
    this.#bytesBefore = this.#bytes;
  }

  async run(touch: Touch, requests: number): Promise<void> {
    for (let request = 0; request < requests; request++) {
      const manager = this.#managers[this.#turn++ % 2]!;
      const startedAt = performance.now();
      const binding = manager.bind({ ...REQUEST, cookieHeader: this.#cookie });
      const session = (await binding.open()) as unknown as Counter;
      if (touch === 'update') await session.update('counter', count => Number(count) + 1);
      else session.set('counter', Number(session.get('counter')) + 1);
      await binding.commit();
      binding.release();
      this.#times.push(performance.now() - startedAt);
    }
  }

  cost(): Cost {
    const sorted = this.#times.sort((a, b) => a - b);
    return { bytes: (this.#bytes - this.#bytesBefore) / sorted.length, ms: sorted[Math.floor(sorted.length / 2)]! };
  }

  async close(): Promise<void> {
    for (const manager of this.#managers) await manager.close();
  }
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { checkout: { type: 'string', default: '.' }, requests: { type: 'string', default: '1000' } },
    allowPositionals: true,
  });
  const load = (file: string) => import(resolve(values.checkout, 'src/session', file));
  const { SessionManager, MemoryStore, MemoryLedger } = await load('index.ts');
  const { LmdbStore, LmdbLedger } = await load('stores/lmdb.ts');
  const { openRedis } = await load('stores/redis.ts');
  const { openPostgres } = await load('stores/postgres.ts');
  for (const place of positionals) {
    const memory: SessionStore = new MemoryStore();
    const open: OpenStore = async () => {
      const path = place.slice('lmdb:'.length);
      if (place.startsWith('lmdb:')) return { store: new LmdbStore({ path }), ledger: new LmdbLedger({ path }) };
      if (place.startsWith('redis')) return openRedis(place);
      if (place.startsWith('postgres')) return openPostgres({ url: place });
      return { store: memory, ledger: new MemoryLedger() }; // of one process, which has both managers
    };
    const create: CreateManager = options => new SessionManager(options);
    const isBefore = values.checkout !== '.';
    const cases: Beside[] = isBefore
      ? ['nothing, no list', 'inline']
      : ['nothing', 'apart', 'nothing, no list', 'inline'];
    for (const touch of ['get and set', 'update'] as const) {
      const costs = await measure(open, create, cases, touch, Number(values.requests));
      for (const [index, { bytes, ms }] of costs.entries()) {
        const ratio = (ms / costs[0]!.ms).toFixed(2);
        console.log(
          `${place.split(':')[0]}, ${touch}, ${cases[index]}: ${bytes.toFixed(0)} B, ${ms.toFixed(3)} ms, ${ratio} ×`,
        );
      }
    }
  }
}

if (import.meta.main) await main();
