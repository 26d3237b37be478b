import { join } from 'node:path';
import { messageOf } from '../../base/message-of.ts';
import type { Config, SessionConfig } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';
import { dataFileProblem } from '../../session/stores/lmdb/data-file.ts';
import { folderProblem } from '../writable-folder.ts';
import { describedSessions } from './described-sessions.ts';

/** Of stores whose clients are not ours, the package that an application adds. */
const PACKAGES: Readonly<Record<string, string>> = {
  redis: 'redis',
  rediss: 'redis',
  'redis+sentinel': 'redis',
  'rediss+sentinel': 'redis',
  postgres: 'pg',
  postgresql: 'pg',
};

/**
 * What makes a start fail because of the stores of sessions, without opening one: a folder that cannot be written, a
 * package that is not installed.
 */
export async function checkSessionStores(config: Config): Promise<BrokenRule[]> {
  const faults: BrokenRule[] = [];
  for (const { session, at } of describedSessions(config)) {
    const url = storeUrl(session);
    if (url === undefined) continue;
    const message = await storeProblem(url);
    if (message !== undefined) faults.push({ path: [...at, 'store'], message });
  }
  return faults;
}

/** The first URL of a store that is named by some; undefined where a program brings one. */
export function storeUrl({ store = 'memory:' }: SessionConfig): string | undefined {
  if (typeof store === 'string') return store;
  return 'url' in store ? [store.url].flat()[0] : undefined;
}

async function storeProblem(url: string): Promise<string | undefined> {
  const kind = url.slice(0, url.indexOf(':'));
  if (kind === 'lmdb') {
    const folder = url.slice('lmdb:'.length);
    return (await folderProblem(folder)) ?? dataFileProblem(join(folder, 'data.mdb'));
  }
  const name = PACKAGES[kind];
  if (name === undefined) return undefined;
  try {
    import.meta.resolve(name);
    return undefined;
  } catch (error) {
    return `the package "${name}" cannot be found; add it with: npm install ${name} (${messageOf(error).split('\n')[0]})`;
  }
}
