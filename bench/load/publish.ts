// The first connection sends a message that the server passes on to all, itself included. When all have it, the next
// follows.
import { CHUNK, type ClientsOptions, openClients } from './clients.ts';
import { Tape, type TapeOptions } from './tape.ts';
import { measureWindow, settle, type WindowOptions } from './window.ts';

export interface PublishOptions
  extends ClientsOptions,
    WindowOptions,
    Pick<TapeOptions, 'size' | 'opcode' | 'around'> {}

const options = JSON.parse(process.argv[2]!) as PublishOptions;
const tape = new Tape({ ...options, burst: 1, chunk: CHUNK });
let published = 0;
let messages = 0;
let isStopping = false;

const clients = await openClients(options, (client, bytes, size) => {
  if (!tape.matches(client.received, bytes, size)) {
    throw new Error(`connection ${client.index} got a message that differs, ${size} bytes from ${client.received}`);
  }
  const count = Math.trunc(((client.received % tape.answerBytes) + size) / tape.answerBytes);
  client.received += size;
  // Nobody may get a message twice, so when the sum is right each connection has each message once.
  if (client.received > published * tape.answerBytes) throw new Error(`connection ${client.index} got one too many`);
  messages += count;
  if (!isStopping && messages === published * options.connections) publish();
});

function publish(): void {
  clients[0]!.socket.write(tape.send(published, 1));
  published++;
}

publish();
const result = await measureWindow(options, () => messages, missing);
isStopping = true;
await settle(() => messages === published * options.connections, missing);
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());

function missing(): string {
  const behind = clients.filter(client => client.received < published * tape.answerBytes);
  return `${behind.length} of ${clients.length} connections wait for message ${published}`;
}
