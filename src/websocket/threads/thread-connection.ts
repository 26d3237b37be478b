import type { Awaitable } from '../../base/awaitable.ts';
import type { DeepReadonly } from '../../session/session.ts';
import type { BroadcastResult } from '../broadcast.ts';
import type { Connection, Endpoint } from '../connection.ts';
import type { CloseEvent } from '../endpoint-options.ts';

/**
 * The connection as a handler in a thread has it. What it says and does is that of the `Connection` in the main thread:
 * `send` and everything else that answers at once waits for the main thread, some 20 µs when that is idle. Members
 * that differ are below.
 *
 * It can be used until its callback has settled; later every call throws ERR_WS_OUTSIDE_CALLBACK.
 *
 * `session` is the session with all its members: values are encoded and decoded in the thread, which needs the
 * `defineType` of their classes; the function given to `update` runs in the thread. `signal.aborted` is right also in
 * the middle of a computation.
 */
export interface ThreadConnection<Data = undefined> extends Omit<Connection<Data>, 'data' | 'endpoint'> {
  /**
   * A copy (structured clone) of the application's own, which cannot be changed in place; what is assigned replaces it
   * for the main thread and for all callbacks. Throws `TypeError` when there is something in it that cannot be copied.
   */
  data: DeepReadonly<Data>;
  /** What is known of the endpoint, and its `broadcast`. */
  readonly endpoint: ThreadEndpoint;
  /**
   * As `server.publish`, which a thread does not have: to every connection of the server that has subscribed to the
   * topic. `except` may be this connection.
   */
  publish(
    topic: string,
    data: string | Uint8Array,
    options?: { readonly except?: ThreadConnection<Data> },
  ): BroadcastResult;
}

/** The endpoint as a handler in a thread has it. */
export interface ThreadEndpoint extends Pick<Endpoint, 'patterns' | 'subprotocols' | 'supportedVersions'> {
  /** As that of `Endpoint`. `except` may be the connection of the callback. */
  broadcast(data: string | Uint8Array, options?: { readonly except?: object }): BroadcastResult;
}

/** What a module of handlers may export: see `handlers` of `defineEndpoint`. */
export interface ThreadHandlers<Data = undefined> {
  onOpen?(connection: ThreadConnection<Data>): Awaitable<void>;
  onMessage?(connection: ThreadConnection<Data>, data: string | Uint8Array): Awaitable<void>;
  onFragment?(connection: ThreadConnection<Data>, data: string | Uint8Array, last: boolean): Awaitable<void>;
  onPing?(connection: ThreadConnection<Data>, data: Uint8Array): Awaitable<void>;
  onPong?(connection: ThreadConnection<Data>, data: Uint8Array): Awaitable<void>;
  onAuthExpiring?(connection: ThreadConnection<Data>, until: number): Awaitable<void>;
  onTimeout?(connection: ThreadConnection<Data>): Awaitable<void>;
  onError?(connection: ThreadConnection<Data>, error: Error): Awaitable<void>;
  onClose?(connection: ThreadConnection<Data>, event: CloseEvent): Awaitable<void>;
}
