import { join } from 'node:path';
import { CloseCode, type Connection, createServer, defineEndpoint } from 'holdfast';
import { Messages } from './messages.ts';

declare module 'holdfast' {
  interface SessionData {
    name: string;
  }
}

const messages = new Messages('./data/messages.db');

const chat = defineEndpoint({
  path: '/chat/:room',
  maxMessageSize: '4KiB',
  onOpen(connection) {
    // A refused handshake would be 1006 to the page, as a lost connection is. This code tells it not to try again.
    if (!connection.session) return connection.close(CloseCode.policyViolation, 'no session');
    connection.subscribe(roomTopic(connection));
    connection.subscribe(nameTopic(connection));
    connection.send(JSON.stringify({ you: connection.session.get('name') ?? null }));
    // What was said since the last message that this tab has: all of it (at most 200) when it is new.
    const after = Number(connection.url.searchParams.get('after') ?? 0);
    for (const message of messages.after(connection.params.room!, after)) connection.send(JSON.stringify(message));
  },
  async onMessage(connection, data) {
    const session = connection.session!;
    const request = read(data);
    if (request && 'name' in request) {
      session.set('name', request.name);
      await session.sync(); // nobody hears of what could still be lost
      server.publish(nameTopic(connection), JSON.stringify({ you: request.name }));
      return;
    }
    const name = session.get('name');
    if (!request || name === undefined)
      return connection.close(CloseCode.policyViolation, 'send {"name"}, then {"id","text"}');

    const { message, isNew } = messages.add(connection.params.room!, session.id, { ...request, name });
    // It reaches its sender too: that is how the sender knows that it is kept.
    if (isNew) server.publish(roomTopic(connection), JSON.stringify(message));
    else connection.send(JSON.stringify(message)); // the answer was lost the first time, and the others have it
  },
});

function roomTopic(connection: Connection): string {
  return `room:${connection.params.room}`;
}

/** For all tabs of one session: they have the same name. */
function nameTopic(connection: Connection): string {
  return `name:${connection.session!.id}`;
}

function read(data: string | Uint8Array): { name: string } | { id: string; text: string } | undefined {
  const { name, id, text } = parse(data);
  if (isText(name, 32)) return { name: name.trim() };
  return isText(id, 64) && isText(text, 500) ? { id, text } : undefined;
}

function parse(data: string | Uint8Array): Record<string, unknown> {
  try {
    return Object(JSON.parse(String(data)));
  } catch {
    return {};
  }
}

function isText(value: unknown, longest: number): value is string {
  return typeof value === 'string' && value.trim() !== '' && value.length <= longest;
}

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: { store: 'lmdb:./data/sessions' },
  routes: [{ endpoint: chat }, { path: '/*', session: 'auto', files: join(import.meta.dirname, 'public') }],
});
await server.start();
console.log(`open ${server.urls[0]}`);
