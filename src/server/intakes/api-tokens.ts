import { hash, timingSafeEqual } from 'node:crypto';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';

/** Between two lines in the log about tokens that were wrong. */
const LOG_EVERY_MS = 10_000;

/** Which upstream a token belongs to. Kept as hashes, and compared in a time that tells nothing of them. */
export class ApiTokens {
  readonly #hashes: readonly { readonly upstream: string; readonly hash: Buffer }[];
  readonly #clock: Clock;
  readonly #logger: Logger;
  #wrong = 0;
  #loggedAt = Number.NEGATIVE_INFINITY;

  /** @param tokens By upstream. @throws {TypeError} when two upstreams have the same. */
  constructor(tokens: ReadonlyMap<string, string>, { clock, logger }: { clock: Clock; logger: Logger }) {
    this.#hashes = Array.from(tokens, ([upstream, token]) => ({ upstream, hash: hash('sha256', token, 'buffer') }));
    this.#clock = clock;
    this.#logger = logger;
    if (new Set(tokens.values()).size < tokens.size)
      throw new TypeError('two upstreams have the same token, so that one would be taken for the other');
  }

  /** The upstream that an `Authorization` header speaks for. RFC 6750 §2.1. */
  upstreamOf(authorization: string | undefined, address: string): string | undefined {
    const token = /^Bearer +([\w.~+/-]+=*)$/i.exec(authorization ?? '')?.[1];
    let upstream: string | undefined;
    if (token !== undefined) {
      const given = hash('sha256', token, 'buffer');
      // Each of them is looked at, whichever it is.
      for (const one of this.#hashes) if (timingSafeEqual(one.hash, given)) upstream = one.upstream;
    }
    if (upstream === undefined) this.#note(address);
    return upstream;
  }

  #note(address: string): void {
    this.#wrong++;
    const now = this.#clock.monotonic();
    if (now < this.#loggedAt + LOG_EVERY_MS) return;
    this.#logger.warn(
      { event: 'wrong-api-token', address, count: this.#wrong },
      'requests to the API for backends without a good token',
    );
    this.#wrong = 0;
    this.#loggedAt = now;
  }
}
