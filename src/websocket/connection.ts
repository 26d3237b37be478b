import type { Session } from '../session/session.ts';
import type { BroadcastResult } from './broadcast.ts';
import type { EndpointLimits, EndpointOptions } from './endpoint-options.ts';
import type { User } from './handshake.ts';

/**
 * One open WebSocket, as the application sees it.
 *
 * Sends are atomic and keep their order, from wherever they are called: what is sent while a `stream` is open waits for
 * its last fragment. They never throw for the state of the connection: after the close they answer false. A value of
 * another type than theirs is a TypeError in every state; the connection, and all others, stay as they were.
 */
export interface Connection<Data = undefined> {
  /** Unique within the process; for logs. */
  readonly id: string;
  /** False as soon as either side has begun to close. */
  readonly isOpen: boolean;
  /** True over TLS, ours or that of a trusted proxy in front of us. */
  readonly isSecure: boolean;
  readonly user: User | undefined;
  /** The session that the handshake came with. When it ends, the connection closes with 1008. */
  readonly session: Session | undefined;
  /** The application's own, as given by `accept`. */
  data: Data;
  readonly endpoint: Endpoint<Data>;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly url: URL;
  /** The values of the pattern's `:name` segments. */
  readonly params: Readonly<Record<string, string>>;
  /** The subprotocol that was agreed, or `''`. */
  readonly subprotocol: string;
  /** Bytes that were sent but not yet handed to the operating system. */
  readonly bufferedAmount: number;
  /** Messages that the endpoint's `slowReader` policy has not sent: dropped, or replaced by a later one. */
  readonly droppedMessages: number;
  /** Aborted when the connection begins to close: for work that only matters to this peer. */
  readonly signal: AbortSignal;

  /**
   * Sends a whole message: a string as text, bytes as binary. The bytes are copied; the buffer may be changed
   * afterwards.
   *
   * @throws {TypeError} for what is neither, an `ArrayBuffer` and other views of one included, naming what to pass in
   * its place.
   * @returns true when it went out or waits within `maxBufferedAmount`; false when the limit is passed (what happens
   * then is the endpoint's `slowReader` policy) or the connection is not open.
   *
   * @example
   * if (!connection.send('hello')) console.log('it has left, or it reads too slowly');
   * connection.send(new Uint8Array([1, 2, 3])); // a binary message
   */
  send(data: string | Uint8Array): boolean;
  /**
   * Resolves when everything sent so far has been handed to the operating system, or the connection has ended. Never
   * rejects.
   *
   * What is held back is not waited for: messages behind an open `stream`, and the latest one under the policy
   * `conflate`.
   *
   * @example
   * for (const part of [new Uint8Array(65_536), new Uint8Array(65_536)]) {
   *   connection.send(part);
   *   await connection.drained(); // so that one part at a time is in memory
   * }
   */
  drained(): Promise<void>;
  /**
   * Sends one fragment of a message; `last` ends it. Text may be cut anywhere: half a surrogate pair waits for the next
   * piece.
   *
   * @throws {TypeError} when text and binary are mixed in one message, or for what is neither.
   *
   * @example
   * connection.stream('one message, ', false);
   * connection.stream('in two parts', true);
   */
  stream(chunk: string | Uint8Array, last: boolean): boolean;
  /**
   * At most 125 bytes (RFC 6455 §5.5).
   * @throws {RangeError} for more.
   * @throws {TypeError} for what is neither text nor bytes.
   *
   * @example
   * connection.ping('1'); // the pong with the same bytes arrives at `onPong`
   */
  ping(data?: string | Uint8Array): boolean;
  /**
   * An unsolicited pong. Pings of the peer are answered without it. @throws {RangeError | TypeError} as `ping`.
   *
   * @example
   * connection.pong(); // a sign of life that asks for no answer
   */
  pong(data?: string | Uint8Array): boolean;
  /**
   * Sends a close frame and waits for the peer's, for at most the endpoint's `closeTimeout`. Messages that arrive
   * meanwhile are discarded. Does nothing when the connection is not open.
   *
   * @param code 1000 to 1014 without the reserved ones, or 3000 to 4999. Default 1000.
   * @param reason At most 123 bytes of UTF-8.
   * @throws {RangeError} for a code that must not be sent, or a longer reason.
   * @throws {TypeError} for a code that is not a number, or a reason that is not a string.
   *
   * @example
   * connection.close(4001, 'the game is over');
   * console.log(connection.isOpen); // false
   */
  close(code?: number, reason?: string): void;
  /**
   * Cuts the TCP connection without a close frame. The peer sees 1006.
   *
   * @example
   * connection.terminate(); // onClose hears 1006
   */
  terminate(): void;
  /**
   * From now on the connection receives what is published on the topic. Ends with the connection.
   * @throws {TypeError} for what is not a string.
   *
   * @example
   * connection.subscribe('news');
   * console.log(server.publish('news', 'hello').sent); // 1
   */
  subscribe(topic: string): void;
  /**
   * @example
   * connection.subscribe('news');
   * connection.unsubscribe('news');
   * console.log(server.publish('news', 'hello').sent); // 0
   */
  unsubscribe(topic: string): void;
}

/**
 * A declared endpoint: its limits, its open connections, and what is sent to all of them. `defineEndpoint` makes them.
 *
 * @example
 * import { defineEndpoint } from 'holdfast';
 *
 * const prices = defineEndpoint({ path: '/prices', maxConnections: 1000 });
 * console.log(prices.connections.size, prices.limits.maxConnections); // 0 1000
 */
export interface Endpoint<Data = undefined> {
  /** As given to `defineEndpoint`. */
  readonly options: EndpointOptions<Data>;
  /** The patterns it is served at, relative to where its application is mounted. */
  readonly patterns: readonly string[];
  /** Subprotocols it speaks, preferred first. */
  readonly subprotocols: readonly string[];
  /** Versions of the protocol that are spoken: 13 (RFC 6455). */
  readonly supportedVersions: readonly number[];
  /** The options and their defaults in milliseconds, bytes and counts. They may be changed while the endpoint runs. */
  readonly limits: EndpointLimits;
  /** The connections that are open now. */
  readonly connections: ReadonlySet<Connection<Data>>;
  /** True when no connection is open, closing, or being judged, and no callback is running. */
  readonly isEmpty: boolean;
  /**
   * Sends a message to every open connection, except those of `except`.
   *
   * It is encoded once and enqueued on all of them before this returns, so all see several broadcasts in one order;
   * a connection that does not read delays no other.
   *
   * @returns how many it was enqueued on, how many were left out, and how many it closed because they read too slowly.
   * @throws {TypeError} when the data is neither a string nor a `Uint8Array`, or `except` is neither a connection nor a
   * list of them. Nothing is sent to anyone then.
   *
   * @example
   * import { defineEndpoint } from 'holdfast';
   *
   * const chat = defineEndpoint({
   *   path: '/chat',
   *   onMessage: (connection, data) => {
   *     chat.broadcast(data, { except: connection });
   *   },
   * });
   * console.log(chat.broadcast('nobody is here yet')); // { sent: 0, skipped: 0, failed: 0 }
   */
  broadcast(
    data: string | Uint8Array,
    options?: { except?: Connection<Data> | Iterable<Connection<Data>> },
  ): BroadcastResult;
}
