import type { IncomingMessage } from 'node:http';
import { randomId } from '../base/ids.ts';

/** What a proxy may name a request: it stands in logs and goes to backends. */
const VALID = /^[\w.:@+/=-]{1,128}$/;

/** The header in which an id is taken and passed on, where the configuration says nothing. */
export const REQUEST_ID_HEADER = 'X-Request-ID';

/**
 * Names requests, so that lines of different logs can be brought together. An id is unique over processes and restarts
 * and not secret: a random beginning, and a number.
 */
export class RequestIds {
  /** Undefined: ids are neither taken nor passed on. */
  readonly header: string | undefined;
  readonly #name: string | undefined;
  readonly #begin = randomId(9);
  #count = 0;

  constructor(header: string | false = REQUEST_ID_HEADER) {
    this.header = header === false ? undefined : header;
    this.#name = this.header?.toLowerCase();
  }

  /** @param isPeerTrusted Is the peer a proxy whose headers are believed? Then its id is taken, if it is valid. */
  of({ headers }: Pick<IncomingMessage, 'headers'>, isPeerTrusted: boolean): string {
    const given = isPeerTrusted && this.#name !== undefined ? headers[this.#name] : undefined;
    if (typeof given === 'string' && VALID.test(given)) return given;
    return `${this.#begin}${(this.#count++).toString(36)}`;
  }
}
