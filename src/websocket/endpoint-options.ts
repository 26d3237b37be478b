import type { Awaitable } from '../base/awaitable.ts';
import type { Duration } from '../base/duration.ts';
import type { OptionNames } from '../base/options.ts';
import type { Size } from '../base/size.ts';
import type { Connection } from './connection.ts';
import type { Handshake } from './handshake.ts';
import type { MessageLimits } from './protocol/message-assembler.ts';
import { DEFLATE_OPTIONS, type DeflateOptions } from './protocol/permessage-deflate.ts';

/** What `accept` answers when it takes the connection and has more to say than `true`. */
export interface Acceptance<Data> {
  /** One of those the client offered and the endpoint lists. */
  subprotocol?: string;
  /** Headers for the 101 response, `Set-Cookie` included. */
  headers?: Readonly<Record<string, string | readonly string[]>>;
  /** Becomes `connection.data`. */
  data?: Data;
}

/** What `accept` answers to refuse with more than a bare 403. */
export interface AcceptRefusal {
  /** 300 to 599. */
  status: number;
  headers?: Readonly<Record<string, string>>;
  body?: string;
}

export interface CloseEvent {
  /**
   * That of the close frame that came first, of either side; 1005 when it had none, 1006 when there was no close frame.
   */
  readonly code: number;
  readonly reason: string;
  /** True when both sides sent a close frame. */
  readonly clean: boolean;
}

/**
 * A limit on callbacks that are running at the same time, shared by every connection of the endpoints that name it (a
 * work manager). One of `concurrency` and `threads` is needed.
 *
 * With `concurrency` alone all of them run in the main thread, as Node runs everything: a handler that computes for
 * 500 ms holds up every other connection, endpoint and request of the process for 500 ms. `concurrency` limits those
 * that wait, for a database for example. Handlers that compute need `threads`.
 */
export interface DispatchOptions {
  /** How many asynchronous callbacks may be unsettled at once. A synchronous callback takes no slot. */
  concurrency?: number;
  /**
   * Threads for the callbacks that the module `handlers` of an endpoint exports: 1 to 128. Each runs one callback at a
   * time, whichever connection's is next, and all others go on meanwhile. They are started with the server; one that
   * ends is replaced.
   */
  threads?: number;
  /**
   * Heap that one thread may have, without the bytes of buffers; a callback that needs more costs its connection and
   * its thread. One allocation that is larger than what is left and 16 MiB ends the process. At least `16MiB`. Default:
   * as much as Node gives a process.
   */
  threadMemory?: Size;
  /** How many connections may wait for a slot. Default 1024. */
  queue?: number;
  /** A connection that finds the queue full: `wait` (default; it is not read until there is room) or `close` (1013). */
  whenFull?: 'wait' | 'close';
}

/** What happens to a connection that reads more slowly than it is sent to. */
export type SlowReaderPolicy = 'wait' | 'drop' | 'conflate' | 'close';

export interface EndpointOptions<Data = undefined> {
  /**
   * One pattern or a list: `/chat` exact, `/chat/:room` template, `/chat/*` prefix. Exact beats template beats prefix.
   */
  path: string | readonly string[];
  /**
   * Silence in both directions after which `onTimeout` runs and the connection closes with 1001. Default `30s`; -1
   * never.
   */
  idleTimeout?: Duration;
  /**
   * Silence from the peer after which we ping. Default two thirds of `idleTimeout`, at most `20s`. `false`: never ping.
   */
  heartbeat?: Duration | false;
  /** Largest message taken, in bytes on the wire; larger: 1009. Default `64KiB`. */
  maxMessageSize?: Size;
  /** Largest message after inflating; larger: 1009. Default: `maxMessageSize`. */
  maxInflatedSize?: Size;
  /** Fragments in one message; more: 1008. Default 1024. */
  maxFragments?: number;
  /** Open connections of this endpoint; more: 503 with `Retry-After`. Default -1, no limit. */
  maxConnections?: number;
  /** How long the peer may take to answer our close frame before the TCP connection is cut. Default `2s`. */
  closeTimeout?: Duration;
  /** Subprotocols the endpoint speaks, preferred first. Default none. */
  subprotocols?: readonly string[];
  /**
   * permessage-deflate (RFC 7692). Default false. All connections together inflate at most 2 MiB in a turn of the event
   * loop, in rotation; what is larger than 64 KiB, or comes to more than 1 MiB, is inflated in the thread pool.
   */
  compression?: boolean | DeflateOptions;
  /**
   * Limits of its own, or the name of limits shared under the server's `dispatch`. Default: no limit beyond one
   * callback per connection. Without `threads` a handler that computes holds up the whole process.
   */
  dispatch?: DispatchOptions | string;
  /**
   * A module whose exports `onOpen`, `onMessage` … run in the `threads` of `dispatch`, each with a `ThreadConnection`:
   * `new URL('./handlers.ts', import.meta.url)`, or an absolute path. A callback is either there or here, where it runs
   * in the main thread; `accept`, `init` and `destroy` are always here. The module is loaded once in each thread, so
   * what it keeps in variables is kept by thread. Default none.
   */
  handlers?: string | URL;
  /**
   * A callback that has not settled after this fails the connection with 1011, an `accept` the handshake with 503. In a
   * thread its `signal` is aborted; when it has not settled a second later, its thread is ended and replaced. Default
   * `60s`; -1 never.
   */
  handlerTimeout?: Duration;
  /**
   * Bytes a connection may have waiting to be sent before `slowReader` applies; the memory they need beside counts too.
   * Over HTTP/2 it also applies when the WebSockets of one TCP connection have more than 4 MiB (or this, if larger)
   * waiting together, to those with over 16 KiB. Default `1MiB`.
   */
  maxBufferedAmount?: Size;
  /**
   * `wait` (default): the message is kept and `send` answers false. `drop`: the message is not sent. `conflate`: only
   * the latest waiting message is kept. `close`: 1013 at once. Whatever the policy, 1013 when more than 1.25 times the
   * limit waits before what is sent now.
   */
  slowReader?: SlowReaderPolicy;
  /**
   * Origins that may connect; an expression must match the whole of one. Default `['self']`. `'accept'` leaves the
   * decision to `accept`. `'any'` takes every origin.
   */
  origins?: 'accept' | 'any' | readonly (string | RegExp)[];
  /**
   * Judges the handshake: true or an `Acceptance` takes it, false refuses with 403, a refusal with its own status.
   * Default: true. What it throws is logged and answered with 500. When the client goes away meanwhile, its answer no
   * longer matters.
   */
  accept?(handshake: Handshake): Awaitable<boolean | Acceptance<Data> | AcceptRefusal>;

  /** Runs once before the endpoint takes its first connection, and `destroy` after its last is gone. */
  init?(): void | Promise<void>;
  destroy?(): void | Promise<void>;

  // Callbacks of one connection run one at a time and in order, onOpen first and onClose last, also when they are
  // async.
  onOpen?(connection: Connection<Data>): Awaitable<void>;
  /**
   * A whole message: text is a string, binary a `Uint8Array` that is valid until the callback returns (copy it to keep
   * it).
   */
  onMessage?(connection: Connection<Data>, data: string | Uint8Array): Awaitable<void>;
  /**
   * A piece of a fragmented message; text is cut at code points. Without it, fragmented messages are put together for
   * `onMessage`.
   */
  onFragment?(connection: Connection<Data>, data: string | Uint8Array, last: boolean): Awaitable<void>;
  /** The pong has already been sent. */
  onPing?(connection: Connection<Data>, data: Uint8Array): Awaitable<void>;
  onPong?(connection: Connection<Data>, data: Uint8Array): Awaitable<void>;
  /**
   * The credentials that the connection was opened by end at `until` (milliseconds since the epoch), and the connection then
   * closes with 1008, unless its user shows fresh ones before: with any HTTP request of the same session. Called once for each
   * end, 60 s before it, or at once where less is left.
   */
  onAuthExpiring?(connection: Connection<Data>, until: number): Awaitable<void>;
  /** The idle timeout struck. It may still send; when it has settled the connection closes with 1001. */
  onTimeout?(connection: Connection<Data>): Awaitable<void>;
  onError?(connection: Connection<Data>, error: Error): Awaitable<void>;
  onClose?(connection: Connection<Data>, event: CloseEvent): Awaitable<void>;
}

export const DISPATCH_OPTIONS: OptionNames<DispatchOptions> = {
  concurrency: 'number',
  threads: 'number',
  threadMemory: 'measure',
  queue: 'number',
  whenFull: true,
};

export const ACCEPTANCE: OptionNames<Acceptance<unknown>> = { subprotocol: 'text', headers: 'fields', data: true };
export const ACCEPT_REFUSAL: OptionNames<AcceptRefusal> = { status: 'number', headers: 'fields', body: 'text' };

export const ENDPOINT_CALLBACKS = {
  accept: 'function',
  init: 'function',
  destroy: 'function',
  onOpen: 'function',
  onMessage: 'function',
  onFragment: 'function',
  onPing: 'function',
  onPong: 'function',
  onAuthExpiring: 'function',
  onTimeout: 'function',
  onError: 'function',
  onClose: 'function',
} as const;

export const ENDPOINT_OPTIONS: OptionNames<EndpointOptions<unknown>> = {
  path: true,
  idleTimeout: 'measure',
  heartbeat: true,
  maxMessageSize: 'measure',
  maxInflatedSize: 'measure',
  maxFragments: 'number',
  maxConnections: 'number',
  closeTimeout: 'measure',
  subprotocols: true,
  compression: DEFLATE_OPTIONS,
  dispatch: DISPATCH_OPTIONS,
  handlers: true,
  handlerTimeout: 'measure',
  maxBufferedAmount: 'measure',
  slowReader: 'text',
  origins: true,
  ...ENDPOINT_CALLBACKS,
};

/**
 * The limits of an endpoint, in milliseconds, bytes and counts; `Infinity` means none.
 *
 * Every value may be changed while the endpoint runs. Sizes and counts hold from the next frame or handshake on, times
 * within ten seconds also for connections that are open.
 */
export interface EndpointLimits extends MessageLimits {
  idleTimeoutMs: number;
  /** `Infinity`: no heartbeat. */
  heartbeatMs: number;
  maxConnections: number;
  closeTimeoutMs: number;
  handlerTimeoutMs: number;
  maxBufferedBytes: number;
  slowReader: SlowReaderPolicy;
}
