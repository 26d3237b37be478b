/**
 * Another process with a ledger on the same folder: does what it is told by messages. Forked by the tests of the lmdb
 * ledger.
 */
import { LmdbLedger } from '../../../src/session/ledgers/lmdb.ts';

export type PeerCommand =
  | { readonly do: 'listen' }
  | { readonly do: 'publish'; readonly name: string; readonly count: number }
  | { readonly do: 'publish for ever'; readonly name: string }
  | { readonly do: 'put for ever'; readonly name: string };

export type PeerReport =
  | { readonly is: 'ready' | 'done' }
  /** `at`: `process.hrtime`, which all processes of a machine share. */
  | { readonly is: 'heard'; readonly message: string; readonly at: bigint }
  | { readonly is: 'acknowledged'; readonly text: string };

const ledger = new LmdbLedger({ path: process.argv[2]! });
const report = (what: PeerReport) => void process.send!(what);

process.on('message', async (command: PeerCommand) => {
  switch (command.do) {
    case 'listen':
      await ledger.subscribe('c', message => report({ is: 'heard', message, at: process.hrtime.bigint() }));
      break;
    case 'publish':
      await Promise.all(
        Array.from({ length: command.count }, (_, index) => ledger.publish('c', `${command.name} ${index}`)),
      );
      break;
    case 'publish for ever':
      for (let index = 0; ; index++) {
        await ledger.publish('c', `${command.name} ${index}`);
        report({ is: 'acknowledged', text: `${command.name} ${index}` });
      }
    case 'put for ever':
      for (let index = 0; ; index++) {
        const text = `${command.name} ${index}`;
        if (await ledger.putIfAbsent(text, text, 60_000)) report({ is: 'acknowledged', text });
        await ledger.increment(command.name, 1, 60_000);
      }
  }
  report({ is: 'done' });
});
process.on('disconnect', () => process.exit());
report({ is: 'ready' });
