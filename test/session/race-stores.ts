import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Ledger } from '../../src/session/ledger.ts';
import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import type { SessionStore } from '../../src/session/store.ts';
import { LmdbLedger, LmdbStore } from '../../src/session/stores/lmdb.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { openPostgres } from '../../src/session/stores/postgres.ts';
import { openRedis } from '../../src/session/stores/redis.ts';
import { postgresMissing, startPostgres } from '../services/postgres-server.ts';
import { redisIsMissing, startRedis } from '../services/redis-server.ts';

/** Where a test keeps sessions: an empty one, for processes that connect to it by its address. */
export interface Place {
  readonly address: string;
  close(): Promise<void>;
}

export interface PlaceKind {
  readonly name: 'memory' | 'lmdb' | 'redis' | 'postgres';
  /** Why there is none on this machine. */
  readonly missing: string | undefined;
  open(): Promise<Place>;
}

export interface Backend {
  readonly store: SessionStore;
  readonly ledger: Ledger;
}

export const PLACES: readonly PlaceKind[] = [
  {
    name: 'memory',
    missing: undefined,
    open: async () => ({ address: 'memory:', close: async () => {} }),
  },
  {
    name: 'lmdb',
    missing: undefined,
    open: async () => {
      const folder = await mkdtemp(join(tmpdir(), 'holdfast-place-'));
      return { address: `lmdb:${folder}`, close: () => rm(folder, { recursive: true, force: true }) };
    },
  },
  {
    name: 'redis',
    missing: redisIsMissing,
    open: async () => {
      const server = await startRedis();
      return { address: server.url, close: () => server.stop() };
    },
  },
  {
    name: 'postgres',
    missing: postgresMissing,
    open: async () => {
      const server = await startPostgres();
      return { address: server.url, close: () => server.stop() };
    },
  },
];

/** Those that several processes can share. */
export const SHARED_PLACES = PLACES.filter(({ name }) => name !== 'memory');

/** ` (skipped: …)` for the title of what is skipped. */
export function skipNote({ missing }: Pick<PlaceKind, 'missing'>): string {
  return missing ? ` (skipped: ${missing})` : '';
}

/** A connection of one's own to the place, closed by the manager that it is given to. In memory nothing is shared. */
export async function connect(address: string): Promise<Backend> {
  if (address.startsWith('lmdb:')) {
    const path = address.slice('lmdb:'.length);
    return { store: new LmdbStore({ path }), ledger: new LmdbLedger({ path }) };
  }
  if (address.startsWith('redis:')) return openRedis(address);
  if (address.startsWith('postgres:')) return openPostgres({ url: address });
  return { store: new MemoryStore(), ledger: new MemoryLedger() };
}
