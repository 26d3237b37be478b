// A request that reads and writes its session, kept in lmdb in the folder given: on disk when the response leaves.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { attachSession, SessionManager } from 'holdfast/session';
import { LmdbLedger, LmdbStore } from 'holdfast/session/lmdb';
import { ready } from './control.ts';

const path = process.argv[2]!;
const sessions = new SessionManager({
  store: new LmdbStore({ path }),
  ledger: new LmdbLedger({ path }),
  keys: ['a key for benchmarks, of at least 32 bytes'],
});
await sessions.start();

const server = createServer(async (req, res) => {
  attachSession(sessions, req, res);
  const session = await sessions.open(req);
  const count = Number(session.get('count') ?? 0) + 1;
  session.set('count', count);
  res.end(String(count));
});
server.listen(0, '127.0.0.1', () => ready((server.address() as AddressInfo).port, () => globalThis.gc?.()));
