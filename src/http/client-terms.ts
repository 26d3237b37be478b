import type { IncomingMessage } from 'node:http';
import type { Refusal } from './refusal.ts';

/** What the target of a request knows of its client's time. The listener, which sees every connection, keeps it. */
export interface ClientTerms {
  /** Silence of the client that is borne; `Infinity`: any, and any rate. Undefined: as everywhere. */
  readonly clientTimeoutMs?: number | undefined;
  /** The target waits for the rest of the body. A body that is not read is owed only once the request is answered. */
  readonly isBodyAwaited?: boolean;
  /**
   * The client sends nothing any more, or too slowly. Called at most once, and only before the answer has begun: this
   * is it.
   */
  onSlowBody?(refusal: Refusal): void;
}

/** A property, because a weak map of objects that live as long as a request keeps the garbage collector busy. */
const TERMS = Symbol('holdfast client terms');
type RequestWithTerms = IncomingMessage & { [TERMS]?: ClientTerms };

/** From now on these hold for the client of the request, and no others. */
export function setClientTerms(request: IncomingMessage, terms: ClientTerms): void {
  (request as RequestWithTerms)[TERMS] = terms;
}

export function clientTermsOf(request: IncomingMessage): ClientTerms | undefined {
  return (request as RequestWithTerms)[TERMS];
}
