import { type EncodedSession, encodedSession } from '../../session/record/encoded-session.ts';
import type { SessionEndReason, SessionOwner } from '../../session/session.ts';
import type { BroadcastResult } from '../broadcast.ts';
import type { Connection } from '../connection.ts';

/** A connection, with what handlers in threads can have done beside what is the connection's own. */
export interface CalledConnection extends Connection<unknown> {
  publish(topic: string, data: string | Uint8Array, except?: object): BroadcastResult;
  /** The time of its callback begins. */
  onCallbackPending(): void;
}

/** The callback that a call comes from. */
export interface Caller {
  readonly connection: CalledConnection;
  /** Attributes as the thread has them already. */
  readonly known: Map<string, Uint8Array>;
  /** Lets the function that the thread has passed to this call run, in the thread. */
  ask(value: Uint8Array | undefined): Promise<Uint8Array | undefined>;
}

/** A value of a session: its bytes, or that they are those which the thread has. */
export type Attribute = { readonly bytes: Uint8Array } | 'as before' | undefined;

const READABLE = ['isNew', 'createdAt', 'lastAccessedAt', 'idleTimeoutMs', 'owner'] as const;
export type ReadableOfSession = (typeof READABLE)[number];

/**
 * What a handler in a thread can have done, by name: the members of `Connection` and `Session`, with values that can be
 * copied. Each is done at once, in the order of the calls; what returns a promise is answered when it has settled.
 */
export const CALLS = {
  data: ({ connection }: Caller): unknown => connection.data,
  setData({ connection }: Caller, data: unknown): void {
    connection.data = data;
  },
  bufferedAmount: ({ connection }: Caller): number => connection.bufferedAmount,
  droppedMessages: ({ connection }: Caller): number => connection.droppedMessages,
  send: ({ connection }: Caller, data: string | Uint8Array): boolean => connection.send(data),
  drained: ({ connection }: Caller): Promise<void> => connection.drained(),
  stream: ({ connection }: Caller, chunk: string | Uint8Array, last: boolean): boolean =>
    connection.stream(chunk, last),
  ping: ({ connection }: Caller, data: string | Uint8Array): boolean => connection.ping(data),
  pong: ({ connection }: Caller, data: string | Uint8Array): boolean => connection.pong(data),
  close: ({ connection }: Caller, code?: number, reason?: string): void => connection.close(code, reason),
  terminate: ({ connection }: Caller): void => connection.terminate(),
  subscribe: ({ connection }: Caller, topic: string): void => connection.subscribe(topic),
  unsubscribe: ({ connection }: Caller, topic: string): void => connection.unsubscribe(topic),
  publish: ({ connection }: Caller, topic: string, data: string | Uint8Array, isForOthers: boolean) =>
    connection.publish(topic, data, isForOthers ? connection : undefined),
  broadcast: ({ connection }: Caller, data: string | Uint8Array, isForOthers: boolean) =>
    connection.endpoint.broadcast(data, isForOthers ? { except: connection } : {}),

  fetch: (caller: Caller, names: readonly string[]): Promise<void> => sessionOf(caller).fetch(names),
  get(caller: Caller, name: string): Attribute {
    const bytes = sessionOf(caller).getEncoded(name);
    if (bytes === undefined) return undefined;
    if (caller.known.get(name) === bytes) return 'as before';
    caller.known.set(name, bytes);
    return { bytes: alone(bytes) };
  },
  set: (caller: Caller, name: string, bytes: Uint8Array): void => sessionOf(caller).setEncoded(name, bytes),
  async update(caller: Caller, name: string): Promise<Uint8Array | undefined> {
    const written = await sessionOf(caller).updateEncoded(name, before => caller.ask(before && alone(before)));
    return written && alone(written);
  },
  delete: (caller: Caller, name: string): void => sessionOf(caller).delete(name),
  has: (caller: Caller, name: string): boolean => sessionOf(caller).has(name),
  keys: (caller: Caller): string[] => sessionOf(caller).keys(),
  read: (caller: Caller, member: ReadableOfSession): unknown =>
    READABLE.includes(member) ? sessionOf(caller)[member] : undefined,
  setIdleTimeout(caller: Caller, ms: number): void {
    sessionOf(caller).idleTimeoutMs = ms;
  },
  sync: (caller: Caller): Promise<void> => sessionOf(caller).sync(),
  renew: (caller: Caller, options?: { readonly owner?: SessionOwner }): Promise<void> =>
    sessionOf(caller).renew(options),
  invalidate: (caller: Caller, reason?: SessionEndReason): Promise<void> => sessionOf(caller).invalidate(reason),
} as const;

export type Calls = typeof CALLS;
export type CallName = keyof Calls;
export type CallArgs<N extends CallName> = Parameters<Calls[N]> extends [Caller, ...infer Args] ? Args : never;

function sessionOf({ connection }: Caller): EncodedSession {
  return encodedSession(connection.session!);
}

/** With a buffer of their own: of what is a part of a buffer, the whole would be copied. */
function alone(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
