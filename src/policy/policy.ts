import type { Refusal } from '../http/refusal.ts';
import type { RequestHead } from '../http/request-head.ts';

/** What a policy says: a refusal, or undefined for "go on". */
export type Decision = Refusal | undefined;

/** A rule over the facts of a request. It never throws and changes nothing. */
export type Policy = (head: RequestHead) => Decision;

/** What of a handshake is kept as long as its WebSocket lives: what rules that change judge it by again. */
export type HandshakeHead = Pick<
  RequestHead,
  | 'method'
  | 'headers'
  | 'host'
  | 'path'
  | 'query'
  | 'peerAddress'
  | 'isPeerTrusted'
  | 'clientAddress'
  | 'isSecure'
  | 'isSchemeKnown'
  | 'isUpgrade'
>;

/** A rule that an open WebSocket can be held to again. */
export type LastingPolicy = (head: HandshakeHead) => Decision;
