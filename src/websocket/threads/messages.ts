import type { MessagePort } from 'node:worker_threads';
import type { User } from '../handshake.ts';
import type { PackedError } from './packed-error.ts';

/** Callbacks that a module may export. */
export const THREAD_CALLBACKS = [
  'onOpen',
  'onMessage',
  'onFragment',
  'onPing',
  'onPong',
  'onAuthExpiring',
  'onTimeout',
  'onError',
  'onClose',
] as const;

export type ThreadCallback = (typeof THREAD_CALLBACKS)[number];

/** The names that a module exports, each with whether it is a function. */
export type ModuleExports = readonly (readonly [name: string, isFunction: boolean])[];

/** What a thread starts with: the first message to it, and the only one that does not come through the port. */
export interface ThreadStart {
  readonly port: MessagePort;
  /** Shared with the main thread: see `Place`. */
  readonly shared: Int32Array;
}

/** The places of the numbers that both threads share. */
export const Place = {
  /** Grows with each message to the thread, which sleeps on it while it waits for an answer. */
  messages: 0,
  /** The task whose connection has begun to close. Read in the middle of a computation. */
  aborted: 1,
  /** The task that the thread has begun last: one that it was given and did not begin can be given to another. */
  begun: 2,
} as const;
export const PLACES = 3;

/** What a thread knows of a connection without asking. */
export interface ConnectionInThread {
  readonly id: string;
  readonly isSecure: boolean;
  readonly user: Pick<User, 'name' | 'roles' | 'claims'> | undefined;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly url: string;
  readonly params: Readonly<Record<string, string>>;
  readonly subprotocol: string;
  readonly session: { readonly id: string; readonly maxAttributeBytes: number } | undefined;
  readonly endpoint: {
    readonly patterns: readonly string[];
    readonly subprotocols: readonly string[];
    readonly supportedVersions: readonly number[];
  };
}

/** One callback of one connection. */
export interface Task {
  readonly module: string;
  readonly callback: ThreadCallback;
  readonly connection: ConnectionInThread;
  /** The connection has begun to close before. */
  readonly isAborted: boolean;
  /** The message and what else the callback gets: an error packed, bytes in a `SharedArrayBuffer`. */
  readonly value: unknown;
  readonly extra: unknown;
}

export type ToThread =
  | { readonly kind: 'load'; readonly module: string }
  | { readonly kind: 'run'; readonly id: number; readonly task: Task }
  | { readonly kind: 'abort'; readonly id: number }
  | { readonly kind: 'answer'; readonly call: number; readonly value?: unknown; readonly error?: PackedError }
  /** What a function that the thread has passed to a call makes of this? */
  | { readonly kind: 'question'; readonly call: number; readonly question: number; readonly value: unknown };

export type FromThread =
  /** A file of the application is loaded, which holds this. */
  | { readonly kind: 'imported'; readonly path: string; readonly digest: string | undefined }
  | { readonly kind: 'loaded'; readonly module: string; readonly exports: ModuleExports }
  | { readonly kind: 'not-loaded'; readonly module: string; readonly error: PackedError }
  | {
      readonly kind: 'call';
      readonly call: number;
      readonly task: number;
      readonly name: string;
      readonly args: readonly unknown[];
    }
  | { readonly kind: 'reply'; readonly question: number; readonly value?: unknown; readonly error?: PackedError }
  | { readonly kind: 'done'; readonly id: number; readonly error?: PackedError };
