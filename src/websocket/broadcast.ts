import type { OptionNames } from '../base/options.ts';
import { checkData, describe } from './protocol/outgoing.ts';
import { SharedMessage } from './shared-message.ts';

/** What became of a broadcast. The three add up to the connections it was for. */
export interface BroadcastResult {
  /** Connections it was enqueued on. */
  readonly sent: number;
  /** Left out: by `except`, or because the slow-reader policy `drop` did not take it. */
  readonly skipped: number;
  /** Closed by it, because they read too slowly. */
  readonly failed: number;
}

/** The options of `broadcast` and `publish`. */
export const BROADCAST_OPTIONS: OptionNames<{ except?: unknown }> = { except: true };

/** The part of an outbox that a broadcast writes with. */
export interface SharedWrites {
  /** True when something is gathered that no other caller has claimed: this one flushes it then. */
  claimFlush(): boolean;
  flush(): void;
}

/** One of those that a broadcast is for. */
export interface Recipient {
  readonly isOpen: boolean;
  readonly outbox: SharedWrites;
  /**
   * Enqueues the message; the flush is the caller's.
   * @returns false when the slow-reader policy left it out or closed the connection.
   */
  sendShared(message: SharedMessage): boolean;
}

// A broadcast is enqueued on all its connections at once, so that one order holds for everybody; only the writes are
// spread, in groups with a turn of the event loop between them, so that thousands of sockets hold up nobody else for
// long.
const GROUP = 256;
let rotation = 0;

interface Batch {
  readonly outboxes: readonly SharedWrites[];
  written: number;
}

const batches: Batch[] = [];

function writeGroup(): void {
  const batch = batches[0]!;
  const { outboxes } = batch;
  const end = Math.min(batch.written + GROUP, outboxes.length);
  while (batch.written < end) outboxes[batch.written++]!.flush();
  if (end === outboxes.length) batches.shift();
  if (batches.length > 0) setImmediate(writeGroup);
}

/**
 * Enqueues the message on every connection at once. Each broadcast starts its writes elsewhere, so that nobody is
 * always last.
 *
 * @param call What the application has called, for errors.
 * @throws {TypeError} when the data is neither text nor bytes, or `except` not an object. Nobody got anything then.
 */
export function broadcast(
  call: string,
  connections: ReadonlySet<Recipient>,
  data: string | Uint8Array,
  except?: Iterable<object> | object,
): BroadcastResult {
  checkData(call, data);
  const left = except === undefined ? undefined : leftOut(call, except);
  if (connections.size === 0) return { sent: 0, skipped: 0, failed: 0 };
  const message = new SharedMessage(data);
  const ready: SharedWrites[] = [];
  let sent = 0;
  let skipped = 0;
  let failed = 0;
  for (const connection of connections) {
    if (left?.has(connection)) {
      skipped++;
    } else if (connection.sendShared(message)) {
      // Once for each, however many messages are sent before it is written.
      if (connection.outbox.claimFlush()) ready.push(connection.outbox);
      sent++;
    } else if (connection.isOpen) {
      skipped++;
    } else {
      failed++;
    }
  }
  writeInTurn(ready);
  return { sent, skipped, failed };
}

function writeInTurn(ready: readonly SharedWrites[]): void {
  if (ready.length === 0) return;
  if (batches.length === 0) setImmediate(writeGroup);
  rotation = ready.length > GROUP ? (rotation + GROUP) % ready.length : 0;
  batches.push({ outboxes: [...ready.slice(rotation), ...ready.slice(0, rotation)], written: 0 });
}

function leftOut(call: string, except: Iterable<object> | object): Set<object> {
  const left = new Set<object>();
  const list = isObject(except) && isIterable(except) ? except : [except];
  for (const connection of list) {
    if (!isObject(connection))
      throw new TypeError(
        `${call}: "except" is a connection or a list of connections, not ${describe(connection)}; leave it out for none`,
      );
    left.add(connection);
  }
  return left;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function isIterable(value: object): value is Iterable<object> {
  return Symbol.iterator in value;
}
