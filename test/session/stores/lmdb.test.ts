import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, test } from 'vitest';
import { LmdbStore } from '../../../src/session/stores/lmdb.ts';
import { storeConformance } from '../../../src/testing/store-conformance.ts';

const folders: string[] = [];
async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-lmdb-'));
  folders.push(path);
  return path;
}
afterAll(() => Promise.all(folders.map(path => rm(path, { recursive: true }))));

storeConformance('lmdb', async () => new LmdbStore({ path: await folder() }), { describe, test });
