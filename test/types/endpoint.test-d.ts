// Checked by the compiler alone: `npm run typecheck`, and test/full/type-checks.test.ts. Nothing here runs.
import { type Config, type Connection, defineEndpoint, type Endpoint, isEndpoint, type Session } from 'holdfast';
import { expectTypeOf } from 'vitest';

const chat = defineEndpoint<{ name: string }>({ path: '/chat' });
declare const anything: unknown;

// An endpoint is what applications use of it, and nothing that the server calls.
expectTypeOf(chat).toEqualTypeOf<Endpoint<{ name: string }>>();
expectTypeOf<keyof Endpoint>().toEqualTypeOf<
  'options' | 'patterns' | 'subprotocols' | 'supportedVersions' | 'limits' | 'connections' | 'isEmpty' | 'broadcast'
>();
// @ts-expect-error: a type, and not a class
chat satisfies InstanceType<typeof Endpoint>;
// @ts-expect-error: what the server calls has a class of its own, which is not exported
chat satisfies import('holdfast').ServedEndpoint;

// What `accept` gives reaches every connection.
expectTypeOf([...chat.connections]).toEqualTypeOf<Connection<{ name: string }>[]>();
declare const connection: Connection<{ name: string }>;
expectTypeOf(connection.endpoint).toEqualTypeOf<Endpoint<{ name: string }>>();
chat.broadcast('hello', { except: connection });
chat.broadcast(new Uint8Array(1), { except: [connection] });
// @ts-expect-error: neither text nor bytes
chat.broadcast(5);
// @ts-expect-error: a session is not a connection
chat.broadcast('hello', { except: connection.session as Session });

// Limits may be changed while it runs, and nothing else.
chat.limits.maxConnections = 5;
// @ts-expect-error: read only
chat.limits = defineEndpoint({ path: '/' }).limits;
// @ts-expect-error: read only
chat.patterns[0] = '/talk';

// A route takes any endpoint.
({ routes: [{ endpoint: chat }, { endpoint: defineEndpoint({ path: '/echo' }) }] }) satisfies Config;
if (isEndpoint(anything)) expectTypeOf(anything).toEqualTypeOf<Endpoint<unknown>>();
