/**
 * The server of the race tests as a process of its own: takes the address of the store and, if it is to have one, a write
 * profile; prints its URL, ends when standard input does.
 */
import type { WriteProfile } from '../../src/session/life/profiles.ts';
import { SessionManager } from '../../src/session/manager.ts';
import { KEY } from './fixture.ts';
import { startRaceServer } from './race-server.ts';
import { connect } from './race-stores.ts';

const [, , address, profile] = process.argv;
const manager = new SessionManager({
  ...(await connect(address!)),
  keys: [KEY],
  ...(profile !== undefined && { profile: profile as WriteProfile }),
});
await manager.start();
const server = await startRaceServer(manager);
process.stdin.on('end', () => void server.close().then(() => process.exit())).resume();
process.stdout.write(`${server.url}\n`);
