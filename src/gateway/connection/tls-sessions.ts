import type { Clock } from '../../base/clock.ts';

/** As many as a server gives in a few handshakes; what is older may be unknown to it by now. */
const MAX_UNUSED = 16;
/**
 * A session that is resumed gives others, and in none of these handshakes is the certificate shown: without an end nobody
 * would hear that it has expired, or is another one (RFC 8446 §4.6.1).
 */
const MAX_AGE_MS = 3_600_000;

export interface TlsSession {
  readonly data: Buffer;
  /** When the server last showed a good certificate, in the clock's monotonic time. */
  readonly provenAt: number;
}

/**
 * The TLS sessions that one server has given us, to be resumed: a handshake that resumes is cheaper for both.
 *
 * Each is used once where there is another (RFC 8446 §C.4): some servers know one only once, and connections that are
 * opened together need one each. It belongs to the settings that it was made with, so it is as trusted as the handshake
 * that gave it.
 */
export class TlsSessions {
  readonly #clock: Clock;
  /** The oldest first. */
  readonly #unused: TlsSession[] = [];
  #latest: TlsSession | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(session: TlsSession): void {
    this.#unused.push(session);
    if (this.#unused.length > MAX_UNUSED) this.#unused.shift();
  }

  /** The newest that was not used, or else the one that was used last; none whose certificate was shown too long ago. */
  take(): TlsSession | undefined {
    const earliest = this.#clock.monotonic() - MAX_AGE_MS;
    const isTooOld = (session: TlsSession | undefined) => session !== undefined && session.provenAt <= earliest;
    let found = this.#unused.pop();
    while (isTooOld(found)) found = this.#unused.pop();
    found ??= this.#latest;
    this.#latest = isTooOld(found) ? undefined : found;
    return this.#latest;
  }

  /** A handshake that was to resume has failed: what the server gave before counts as unknown to it. */
  clear(): void {
    this.#unused.length = 0;
    this.#latest = undefined;
  }
}
