import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Refusal } from '../../http/refusal.ts';

/** Who takes what comes in. Neither may throw. */
export interface Intake {
  onRequest(request: IncomingMessage, response: ServerResponse): void;
  onUpgrade(request: IncomingMessage, socket: Duplex, early: Buffer): void;
  /** Should this request be taken as an upgrade, rather than answered as plain HTTP? */
  isUpgrade(request: IncomingMessage): boolean;
  /**
   * The listener has answered by itself: what has come is not a request that could be taken here. Of its head only what
   * could be read is known.
   *
   * @param answer Closes when the answer is over: a response, or all of the connection or stream.
   */
  onRefused?(request: IncomingMessage, refusal: Refusal, answer: ServerResponse | Duplex): void;
}
