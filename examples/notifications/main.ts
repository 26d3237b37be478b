import { join } from 'node:path';
import { CloseCode, createServer, defineEndpoint, type FetchHandler } from 'holdfast';
import { Inbox } from './inbox.ts';

declare module 'holdfast' {
  interface SessionData {
    /** Of this browser: another one of the same user may still ring. */
    isMuted: boolean;
  }
}

const inbox = new Inbox('./data/inbox.db');

/** Every tab of every browser in which this user is signed in. */
const userTopic = (name: string) => `user:${name}`;
/** Every tab of one browser. */
const sessionTopic = (sid: string) => `session:${sid}`;

const notifications = defineEndpoint({
  path: '/notifications',
  maxMessageSize: '1KiB',
  onOpen(connection) {
    const { session } = connection;
    // A refused handshake would be 1006 to the page, as a lost connection is. This code tells it to ask for a name.
    if (!session?.owner) return connection.close(CloseCode.policyViolation, 'sign in first');
    connection.subscribe(userTopic(session.owner.name));
    connection.subscribe(sessionTopic(session.id));
    // What came while nobody was connected is here, too.
    const state = { user: session.owner.name, isMuted: session.get('isMuted') ?? false };
    connection.send(JSON.stringify({ ...state, unread: inbox.unread(session.owner.name) }));
  },
  async onMessage(connection, data) {
    const session = connection.session!;
    const user = session.owner!.name;
    const { read, isMuted } = parse(data);
    if (Number.isSafeInteger(read)) {
      inbox.markRead(user, Number(read));
      server.publish(userTopic(user), JSON.stringify({ read }));
    } else if (typeof isMuted === 'boolean') {
      session.set('isMuted', isMuted);
      await session.sync();
      server.publish(sessionTopic(session.id), JSON.stringify({ isMuted }));
    } else {
      connection.close(CloseCode.policyViolation, 'send {"read"} or {"isMuted"}');
    }
  },
});

function parse(data: string | Uint8Array): Record<string, unknown> {
  try {
    return Object(JSON.parse(String(data)));
  } catch {
    return {};
  }
}

const signIn: FetchHandler = async (request, { session }) => {
  if (session?.owner) return new Response('sign out first', { status: 409 });
  const name = String((await request.formData()).get('name')).trim();
  if (!/^[\p{L}\p{N} -]{1,32}$/u.test(name)) return new Response('a name has 1 to 32 letters', { status: 400 });
  await server.sessions.signIn(request, { name, roles: [] }); // the cookie from before the login is dead from here on
  return new Response(null, { status: 204 });
};

const signOut: FetchHandler = async (_request, { session }) => {
  await session?.invalidate('logout'); // the sockets of this browser close with 1008; those of others stay
  return new Response(null, { status: 204 });
};

const notify: FetchHandler = async (request, { session, params }) => {
  if (!session?.owner) return new Response('sign in first', { status: 401 });
  const text = (await request.text()).slice(0, 500);
  const notification = inbox.add(params.user!, session.owner.name, text);
  // It is kept. Who is connected gets it now, who is not when they connect.
  const { sent } = server.publish(userTopic(params.user!), JSON.stringify({ notification }));
  return Response.json({ number: notification.number, tabs: sent }, { status: 202 });
};

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  // A tab that only waits is in use: its pongs keep the session alive.
  session: { store: 'lmdb:./data/sessions', touchOnTraffic: 'any' },
  routes: [
    { endpoint: notifications },
    { path: '/sign-in', methods: ['POST'], fetch: signIn },
    { path: '/sign-out', methods: ['POST'], fetch: signOut },
    { path: '/notify/:user', methods: ['POST'], fetch: notify },
    { path: '/*', session: 'auto', files: join(import.meta.dirname, 'public') },
  ],
});
await server.start();
console.log(`open ${server.urls[0]}`);
