import { isUtf8 } from 'node:buffer';

/** Below this many bytes the call into native code costs more than walking them (measured: break-even near 64). */
const NATIVE_MINIMUM = 64;

/**
 * Checks UTF-8 that arrives in pieces; code points may straddle them.
 *
 * It fails on the very byte with which the text stops being the beginning of any valid text, not at its end: a peer
 * that sends garbage in a long message is stopped at once (RFC 6455 §8.1). Surrogates, overlong forms and code points
 * above U+10FFFF are not UTF-8; non-characters such as U+FFFF are (RFC 3629 §3).
 */
export class Utf8Validator {
  /** Continuation bytes the open code point still needs, and bytes of it that were seen. */
  #needed = 0;
  #seen = 0;
  /** What its next byte may be. Narrower than 80..BF only after E0, ED, F0 and F4. */
  #lower = 0x80;
  #upper = 0xbf;

  /**
   * Takes `bytes[start..end)`.
   *
   * @returns false as soon as the bytes so far cannot be UTF-8. From then on only `reset` makes sense.
   */
  write(bytes: Uint8Array, start: number, end: number): boolean {
    let at = start;
    while (this.#needed > 0 && at < end) {
      if (!this.#step(bytes[at++]!)) return false;
    }
    if (end - at >= NATIVE_MINIMUM) {
      const last = lastCodePoint(bytes, end);
      if (!isUtf8(bytes.subarray(at, last))) return false;
      at = last;
    }
    for (; at < end; at++) {
      const byte = bytes[at]!;
      if ((byte >= 0x80 || this.#needed > 0) && !this.#step(byte)) return false;
    }
    return true;
  }

  /** True when no code point is open: the text may end here. */
  get isComplete(): boolean {
    return this.#needed === 0;
  }

  /** Bytes of the code point that is open at the end, 0 to 3. */
  get pendingBytes(): number {
    return this.#seen;
  }

  reset(): void {
    this.#needed = 0;
    this.#seen = 0;
    this.#lower = 0x80;
    this.#upper = 0xbf;
  }

  /** The table of well-formed byte sequences: Unicode, table 3-7. */
  #step(byte: number): boolean {
    if (this.#needed > 0) {
      if (byte < this.#lower || byte > this.#upper) return false;
      this.#lower = 0x80;
      this.#upper = 0xbf;
      this.#needed--;
      this.#seen = this.#needed === 0 ? 0 : this.#seen + 1;
      return true;
    }
    if (byte < 0x80) return true;
    if (byte < 0xc2 || byte > 0xf4) return false;
    this.#needed = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    this.#seen = 1;
    if (byte === 0xe0) this.#lower = 0xa0;
    else if (byte === 0xed) this.#upper = 0x9f;
    else if (byte === 0xf0) this.#lower = 0x90;
    else if (byte === 0xf4) this.#upper = 0x8f;
    return true;
  }
}

/** Where the last code point begins if it may still be open; otherwise `end`. */
function lastCodePoint(bytes: Uint8Array, end: number): number {
  for (let at = end - 1; at >= end - 3; at--) {
    const byte = bytes[at]!;
    if (byte < 0x80) return end;
    if (byte >= 0xc0) return at;
  }
  // Three continuation bytes: whatever they belong to is complete, or wrong, and native code can tell.
  return end;
}
