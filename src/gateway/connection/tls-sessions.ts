/** As many as a server gives in a few handshakes; what is older may be unknown to it by now. */
const MAX_UNUSED = 16;

/**
 * The TLS sessions that one server has given us, to be resumed: a handshake that resumes is cheaper for both.
 *
 * Each is used once where there is another (RFC 8446 §C.4): some servers know one only once, and connections that are
 * opened together need one each. It belongs to the settings that it was made with, so it is as trusted as the handshake
 * that gave it.
 */
export class TlsSessions {
  /** The oldest first. */
  readonly #unused: Buffer[] = [];
  #latest: Buffer | undefined;

  add(session: Buffer): void {
    this.#unused.push(session);
    if (this.#unused.length > MAX_UNUSED) this.#unused.shift();
  }

  /** The newest that was not used, or else the one that was used last. */
  take(): Buffer | undefined {
    this.#latest = this.#unused.pop() ?? this.#latest;
    return this.#latest;
  }

  /** A handshake that was to resume has failed: what the server gave before counts as unknown to it. */
  clear(): void {
    this.#unused.length = 0;
    this.#latest = undefined;
  }
}
