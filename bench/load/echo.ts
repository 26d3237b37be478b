// Every connection keeps `inFlight` messages under way: each echo that comes back is compared and sends the next
// message.
import { CHUNK, type Client, type ClientsOptions, openClients } from './clients.ts';
import { Tape, type TapeOptions } from './tape.ts';
import { measureWindow, runTurns, settle, type WindowOptions } from './window.ts';

export interface EchoOptions extends ClientsOptions, WindowOptions, Pick<TapeOptions, 'size' | 'opcode' | 'around'> {
  inFlight: number;
}

const options = JSON.parse(process.argv[2]!) as EchoOptions;
const tape = new Tape({ ...options, burst: options.inFlight, chunk: CHUNK });
let messages = 0;
let isStopping = false;

const clients = await openClients(options, (client, bytes, size) => {
  if (!tape.matches(client.index * tape.answerBytes + client.received, bytes, size)) {
    throw new Error(
      `connection ${client.index} got an echo that differs, within ${size} bytes from ${client.received}`,
    );
  }
  const count = Math.trunc(((client.received % tape.answerBytes) + size) / tape.answerBytes);
  client.received += size;
  if (client.received > client.sent * tape.answerBytes) throw new Error('an echo came that was not asked for');
  messages += count;
  if (count === 0 || isStopping) return;
  client.socket.write(tape.send(client.index + client.sent, count));
  client.sent += count;
});

await runTurns(options, async window => {
  isStopping = false;
  for (const client of clients) {
    client.socket.write(tape.send(client.index + client.sent, options.inFlight));
    client.sent += options.inFlight;
  }
  const result = await measureWindow(window, () => messages, missing);
  isStopping = true;
  await settle(() => behind().length === 0, missing);
  return result;
});

function behind(): Client[] {
  return clients.filter(client => client.received < client.sent * tape.answerBytes);
}

function missing(): string {
  return `${behind().length} of ${clients.length} connections wait for an echo`;
}
