import { join } from 'node:path';
import { CloseCode, createServer, defineEndpoint, type FetchHandler, isHoldfastError } from 'holdfast';
import { Devices } from './devices.ts';
import { add, isReading, type Summary } from './summary.ts';

declare module 'holdfast' {
  interface SessionData {
    device: string;
    summary: Summary;
  }
}

const devices = new Devices('./data/devices.db');

const register: FetchHandler = async (request, { session }) => {
  const device = String((await request.formData()).get('device'));
  if (!/^[\w-]{1,32}$/.test(device)) return new Response('a device has a name of 1 to 32 letters', { status: 400 });
  session!.set('device', device);
  await session!.sync();
  devices.add(device, session!.id);
  return new Response(null, { status: 201 }); // with the cookie, which the device keeps
};

const readings = defineEndpoint({
  path: '/readings',
  maxMessageSize: '1KiB',
  // A browser names the origin of its page in every handshake. A device has none, so no page can speak for one.
  origins: 'accept',
  accept: ({ origin }) => origin === undefined,
  onOpen(connection) {
    const { session } = connection;
    // A code says more to a client than a refused handshake does: this one tells it to register.
    if (!session?.has('device')) return connection.close(CloseCode.policyViolation, 'register first');
    connection.send(JSON.stringify({ taken: session.get('summary')?.last ?? 0 }));
  },
  async onMessage(connection, data) {
    const session = connection.session!;
    const reading = parse(data);
    if (!isReading(reading)) return connection.close(CloseCode.policyViolation, 'send {"at","value"}');
    const summary = await session.update('summary', summary => add(summary, reading));
    // It is on disk: the device may forget it.
    connection.send(JSON.stringify({ taken: summary.last }));
    server.publish('summaries', JSON.stringify({ device: session.get('device'), summary }));
  },
});

/** For people: every device's summary when it opens, then each change. */
const dashboard = defineEndpoint({
  path: '/dashboard',
  async onOpen(connection) {
    connection.subscribe('summaries');
    for (const { device, sid } of devices.all()) {
      try {
        await server.sessions.access(sid, session => {
          const summary = session.get('summary');
          if (summary) connection.send(JSON.stringify({ device, summary }));
        });
      } catch (error) {
        if (!isHoldfastError(error) || error.code !== 'ERR_SESSION_ENDED') throw error;
        devices.remove(device, sid); // not heard of for too long
      }
    }
  },
});

function parse(data: string | Uint8Array): unknown {
  try {
    return JSON.parse(String(data));
  } catch {
    return undefined;
  }
}

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  // A device that is silent for a month is gone.
  session: { store: 'lmdb:./data/sessions', idleTimeout: '30d', absoluteTimeout: -1 },
  routes: [
    { path: '/devices', methods: ['POST'], session: 'create', fetch: register },
    { endpoint: readings },
    { endpoint: dashboard, session: 'none' },
    { path: '/*', files: join(import.meta.dirname, 'public') },
  ],
});
await server.start();
console.log(`open ${server.urls[0]}`);
