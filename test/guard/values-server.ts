import { type Connection, createServer, defineConfig, defineEndpoint, type Endpoint, type Server } from 'holdfast';
import { hostileValues } from './hostile-values.ts';

/*
 * A server whose application passes whatever value it is told to whatever method it is told to. `/plain` and
 * `/compressed` are the connections that this happens to, `/echo` those of others, and `/control` says what to do and
 * answers with what came of it.
 */

type Listeners = readonly NonNullable<Parameters<typeof defineConfig>[0]['listen']>[number][];

export interface Order {
  readonly method: string;
  /** A name in `hostileValues`. */
  readonly value: string;
  /** What the connection has given as its name; for what concerns one connection. */
  readonly victim?: string;
  /** What concerns more than one: `/plain` or `/compressed`. */
  readonly path?: string;
}

export type Outcome =
  | { readonly returned: unknown }
  | { readonly threw: { readonly name: string; readonly message: string } };

const victims = new Map<string, Connection>();
const pongs = new Map<Connection, (payload: Uint8Array) => void>();
const endpoints = new Map<string, Endpoint>();

function victimEndpoint(path: string, compression: Parameters<typeof defineEndpoint>[0]['compression']): Endpoint {
  return defineEndpoint({
    path,
    compression,
    onOpen(connection) {
      victims.set(connection.url.searchParams.get('name')!, connection);
      connection.subscribe('victims');
    },
    onPong: (connection, payload) => pongs.get(connection)?.(payload),
    onMessage: (connection, data) => void connection.send(data),
  });
}

/** The server whose `publish` is tried: the one that is served has none that its module could call. */
let publisher: Server | undefined;

async function act({ method, value, victim, path }: Order): Promise<unknown> {
  const given = hostileValues[value]!.make() as string & number;
  const connection = victims.get(victim ?? '')!;
  switch (method) {
    case 'send':
      return connection.send(given);
    case 'stream':
      return connection.stream(given, true);
    case 'stream, first':
      // What follows must be the rest of the message where it is one.
      return [
        connection.stream(given, false),
        connection.stream(typeof given === 'string' ? '' : Buffer.alloc(0), true),
      ];
    case 'stream, last':
      connection.stream('', false);
      try {
        return connection.stream(given, true);
      } finally {
        connection.stream('', true);
      }
    case 'ping': {
      const pong = new Promise<Uint8Array>(resolve => pongs.set(connection, data => resolve(Buffer.from(data))));
      connection.ping(given);
      return Buffer.from(await pong).toString('base64');
    }
    case 'pong':
      return connection.pong(given);
    case 'close with the code':
      return connection.close(given);
    case 'close with the reason':
      return connection.close(1000, given);
    case 'subscribe':
      return connection.subscribe(given);
    case 'unsubscribe':
      return connection.unsubscribe(given);
    case 'broadcast':
      return endpoints.get(path!)!.broadcast(given);
    case 'broadcast to nobody':
      return endpoints.get('/nobody')!.broadcast(given);
    case 'publish':
      return publisher!.publish('victims', given);
    case 'publish to nobody':
      return publisher!.publish('nobody', given);
    case 'publish to the topic':
      return publisher!.publish(given, 'text');
    case 'broadcast with the exception':
      return endpoints.get('/nobody')!.broadcast('text', { except: given as never });
    default:
      throw new Error(`no method ${method}`);
  }
}

async function obey(order: Order): Promise<Outcome> {
  try {
    return { returned: await act(order) };
  } catch (error) {
    return { threw: { name: (error as Error).name, message: (error as Error).message } };
  }
}

export async function valuesConfig(listen: Listeners) {
  for (const [path, compression] of [
    ['/plain', false],
    ['/compressed', { threshold: 1, contextTakeover: true }],
    ['/nobody', false],
  ] as const)
    endpoints.set(path, victimEndpoint(path, compression));
  const published = [victimEndpoint('/plain', false), victimEndpoint('/compressed', { threshold: 1 })];
  publisher = createServer({ listen: [...listen], session: false, routes: published.map(endpoint => ({ endpoint })) });
  await publisher.start();
  const control = defineEndpoint({
    path: '/control',
    maxMessageSize: '1MiB',
    async onMessage(connection, data) {
      const order = JSON.parse(String(data)) as Order;
      connection.send(JSON.stringify(await obey(order)));
    },
  });
  const echo = defineEndpoint({ path: '/echo', onMessage: (connection, data) => void connection.send(data) });
  return defineConfig({
    listen: [...listen],
    session: false,
    routes: [
      ...[...endpoints.values(), control, echo].map(endpoint => ({ endpoint: endpoint as Endpoint<unknown> })),
      { path: '/publisher', fetch: () => Response.json(publisher!.urls) },
    ],
  });
}
