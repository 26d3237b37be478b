import type { Session } from '../session/session.ts';
import type { Endpoint } from './endpoint.ts';
import type { User } from './handshake.ts';

/**
 * One open WebSocket, as the application sees it.
 *
 * Sends are atomic and keep their order, from wherever they are called: what is sent while a `stream` is open waits for its last
 * fragment. They never throw for the state of the connection: after the close they answer false. A value of another
 * type than theirs is a TypeError in every state; the connection, and all others, stay as they were.
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
   * Sends a whole message: a string as text, bytes as binary. The bytes are copied; the buffer may be changed afterwards.
   *
   * @throws {TypeError} for what is neither, an `ArrayBuffer` and other views of one included, naming what to pass in
   * its place.
   * @returns true when it went out or waits within `maxBufferedAmount`; false when the limit is passed (what happens then is the
   * endpoint's `slowReader` policy) or the connection is not open.
   */
  send(data: string | Uint8Array): boolean;
  /**
   * Resolves when everything sent so far has been handed to the operating system, or the connection has ended. Never rejects.
   *
   * What is held back is not waited for: messages behind an open `stream`, and the latest one under the policy `conflate`.
   */
  drained(): Promise<void>;
  /**
   * Sends one fragment of a message; `last` ends it. Text may be cut anywhere: half a surrogate pair waits for the next piece.
   *
   * @throws {TypeError} when text and binary are mixed in one message, or for what is neither.
   */
  stream(chunk: string | Uint8Array, last: boolean): boolean;
  /**
   * At most 125 bytes (RFC 6455 §5.5).
   * @throws {RangeError} for more.
   * @throws {TypeError} for what is neither text nor bytes.
   */
  ping(data?: string | Uint8Array): boolean;
  /** An unsolicited pong. Pings of the peer are answered without it. @throws {RangeError | TypeError} as `ping`. */
  pong(data?: string | Uint8Array): boolean;
  /**
   * Sends a close frame and waits for the peer's, for at most the endpoint's `closeTimeout`. Messages that arrive meanwhile are
   * discarded. Does nothing when the connection is not open.
   *
   * @param code 1000 to 1014 without the reserved ones, or 3000 to 4999. Default 1000.
   * @param reason At most 123 bytes of UTF-8.
   * @throws {RangeError} for a code that must not be sent, or a longer reason.
   * @throws {TypeError} for a code that is not a number, or a reason that is not a string.
   */
  close(code?: number, reason?: string): void;
  /** Cuts the TCP connection without a close frame. The peer sees 1006. */
  terminate(): void;
  /**
   * From now on the connection receives what is published on the topic. Ends with the connection.
   * @throws {TypeError} for what is not a string.
   */
  subscribe(topic: string): void;
  unsubscribe(topic: string): void;
}
