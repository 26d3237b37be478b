// Opens connections and leaves them alone until standard input ends.
import { type ClientsOptions, openClients } from './clients.ts';

const options = JSON.parse(process.argv[2]!) as ClientsOptions;
const clients = await openClients(options, client => {
  throw new Error(`connection ${client.index} got a message that nobody asked for`);
});
process.stdin.on('end', () => process.exit()).resume();
process.stdout.write(`${JSON.stringify({ open: clients.length })}\n`);
