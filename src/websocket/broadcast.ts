import type { EndpointConnection } from './endpoint-connection.ts';
import type { Outbox } from './outbox.ts';
import { SharedMessage } from './shared-message.ts';

/** What became of a broadcast: connections it was enqueued on, left out by their slow-reader policy or `except`, and already closing. */
export interface BroadcastResult {
  readonly sent: number;
  readonly skipped: number;
  readonly failed: number;
}

// A broadcast is enqueued on all its connections at once, so that one order holds for everybody; only the writes are spread,
// in groups with a turn of the event loop between them, so that thousands of sockets hold up nobody else for long.
const GROUP = 256;
const waitingForWrite: Outbox[] = [];
let written = 0;
let rotation = 0;

function writeGroup(): void {
  const end = Math.min(written + GROUP, waitingForWrite.length);
  while (written < end) waitingForWrite[written++]!.flush();
  if (written < waitingForWrite.length) {
    setImmediate(writeGroup);
  } else {
    waitingForWrite.length = 0;
    written = 0;
  }
}

/** Enqueues the message on every connection at once. Each broadcast starts its writes elsewhere, so that nobody is always last. */
export function broadcast(
  connections: ReadonlySet<EndpointConnection<unknown>>,
  data: string | Uint8Array,
  except?: Iterable<object> | object,
): BroadcastResult {
  const message = new SharedMessage(data);
  const left = except === undefined ? undefined : new Set(isIterable(except) ? except : [except]);
  const ready: Outbox[] = [];
  let sent = 0;
  let skipped = 0;
  let failed = 0;
  for (const connection of connections) {
    if (left?.has(connection)) {
      skipped++;
    } else if (!connection.isOpen) {
      failed++;
    } else if (connection.sendShared(message)) {
      ready.push(connection.outbox);
      sent++;
    } else {
      skipped++;
    }
  }
  writeInTurn(ready);
  return { sent, skipped, failed };
}

function writeInTurn(ready: readonly Outbox[]): void {
  if (ready.length === 0) return;
  if (waitingForWrite.length === 0) setImmediate(writeGroup);
  rotation = ready.length > GROUP ? (rotation + GROUP) % ready.length : 0;
  for (let i = 0; i < ready.length; i++) waitingForWrite.push(ready[(rotation + i) % ready.length]!);
}

function isIterable(value: object): value is Iterable<object> {
  return Symbol.iterator in value;
}
