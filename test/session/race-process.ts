/**
 * The server of the race tests as a process of its own: takes the address of the store, and options of the manager as
 * JSON; prints its URL, ends when standard input does.
 */
import { SessionManager } from '../../src/session/manager.ts';
import { KEY } from './fixture.ts';
import { startRaceServer } from './race-server.ts';
import { connect } from './race-stores.ts';

const manager = new SessionManager({
  ...(await connect(process.argv[2]!)),
  keys: [KEY],
  ...JSON.parse(process.argv[3] ?? '{}'),
});
await manager.start();
const server = await startRaceServer(manager);
process.stdin.on('end', () => void server.close().then(() => process.exit())).resume();
process.stdout.write(`${server.url}\n`);
