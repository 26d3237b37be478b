import type { Database, RootDatabase } from 'lmdb';
import { HoldfastError } from '../../../base/errors.ts';
import { Head } from './head.ts';
import { encodeText, joinKeys, keyOf, NOTHING } from './keys.ts';
import type { LmdbRoom } from './room.ts';

/**
 * What the sub-databases are for. Grows with each change that an older program would not understand.
 *
 * 1: heads, values, accesses, expiries. 2: owners (the sessions of a user); meta, which says the layout; facts, fact
 * expiries and events of the ledger. 3: heads hold small values; those of layout 2 are read, and written anew with the
 * next commit.
 */
const LAYOUT = 3;
const KEY = keyOf('layout');

/** What the layout needs of the environment that opens the folder. */
interface OpenFolder {
  readonly root: RootDatabase<Buffer, Buffer>;
  readonly room: LmdbRoom;
  database(name: string, useVersions: boolean): Database<Buffer, Buffer>;
}

/**
 * Makes the folder's layout the one that this program knows, in one transaction and once: the first process to open it
 * does it. Programs that know only layout 1 do not notice, so none of them may go on working on the folder.
 *
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when a newer program has written it.
 */
export function prepareLayout(environment: OpenFolder, path: string): void {
  const { root } = environment;
  const meta = environment.database('meta', true);
  const check = () => {
    const layout = meta.getEntry(KEY)?.version ?? 0;
    if (layout <= LAYOUT) return layout;
    const message = `the sessions in ${path} were written by a newer version (layout ${layout}; this one knows ${LAYOUT}); run that version, or use another folder`;
    throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503 });
  };
  if (check() === LAYOUT) return;
  environment.room.take(0, 'owned');
  const heads = environment.database('heads', true);
  const owners = environment.database('owners', false);
  root.transactionSync(() => {
    const layout = check();
    if (layout === LAYOUT) return; // another process was first
    for (const { key, value } of layout < 2 ? heads.getRange({}) : []) {
      const { sid, header } = Head.decode(value);
      if (header.owner) void owners.put(joinKeys(keyOf(header.owner.name), Buffer.from(key)), encodeText(sid));
    }
    void meta.put(KEY, NOTHING, LAYOUT);
  });
}
