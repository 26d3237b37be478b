import { type Connection, defineEndpoint } from '../../index.ts';

interface Message {
  readonly type: 'message';
  readonly name: string;
  readonly text: string;
  readonly at: number;
}

interface Room {
  /** The latest messages, oldest first. Kept in memory: a chat that outlives its server is not what this shows. */
  readonly history: Message[];
  readonly connections: Set<Connection<Member>>;
}

interface Member {
  readonly name: string;
}

const ROOMS: readonly string[] = ['lobby', 'harbour', 'engine-room'];
const HISTORY_LENGTH = 50;
const LONGEST_TEXT = 500;

/** @param publish Sends a text to everybody who subscribed to the topic. */
export function createChat(publish: (topic: string, text: string) => void) {
  const rooms = new Map(ROOMS.map((name): [string, Room] => [name, { history: [], connections: new Set() }]));

  const roomOf = (connection: Connection<Member>): Room => rooms.get(connection.params.room!)!;
  const roster = (room: Room) => [...new Set([...room.connections].map(({ data }) => data.name))].sort();
  const publishRoster = (connection: Connection<Member>, room: Room) =>
    publish(topic(connection), JSON.stringify({ type: 'roster', roster: roster(room) }));

  return defineEndpoint<Member>({
    path: '/chat/:room',
    accept({ session, params }) {
      const name = session?.get('name');
      if (typeof name !== 'string') return { status: 401, body: 'sign in first' };
      return rooms.has(params.room!) ? { data: { name } } : { status: 404, body: 'no such room' };
    },
    onOpen(connection) {
      const room = roomOf(connection);
      room.connections.add(connection);
      connection.subscribe(topic(connection));
      connection.send(JSON.stringify({ type: 'welcome', history: room.history }));
      publishRoster(connection, room);
    },
    onMessage(connection, data) {
      const text = readText(data);
      if (text === undefined) return connection.close(1003, 'send {"type":"message","text":"..."}');
      const name = String(connection.session!.get('name'));
      const message: Message = { type: 'message', name, text, at: Date.now() };
      const { history } = roomOf(connection);
      history.push(message);
      if (history.length > HISTORY_LENGTH) history.shift();
      publish(topic(connection), JSON.stringify(message));
    },
    onClose(connection) {
      const room = roomOf(connection);
      room.connections.delete(connection);
      publishRoster(connection, room);
    },
  });
}

function topic(connection: Connection<Member>): string {
  return `room:${connection.params.room}`;
}

function readText(data: string | Uint8Array): string | undefined {
  if (typeof data !== 'string') return undefined;
  try {
    const { type, text } = JSON.parse(data);
    return type === 'message' && typeof text === 'string' ? text.slice(0, LONGEST_TEXT) : undefined;
  } catch {
    return undefined;
  }
}
