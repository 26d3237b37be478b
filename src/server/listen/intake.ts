import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

/** Who takes what comes in. Neither may throw. */
export interface Intake {
  onRequest(request: IncomingMessage, response: ServerResponse): void;
  onUpgrade(request: IncomingMessage, socket: Duplex, early: Buffer): void;
  /** Should this request be taken as an upgrade, rather than answered as plain HTTP? */
  isUpgrade(request: IncomingMessage): boolean;
}
