/** One value of ASN.1 in DER (X.690 §8.1). */
export interface DerValue {
  /** The whole identifier octet: `0x30` for a SEQUENCE. */
  readonly tag: number;
  readonly content: Uint8Array;
  /** With tag and length. */
  readonly whole: Uint8Array;
}

/** Values one after the other, as far as they are looked at. */
export class DerReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** The tag of the next value; undefined at the end. */
  get nextTag(): number | undefined {
    return this.#bytes[this.#at];
  }

  /**
   * @param tag The only one that may come here. Default: any.
   * @throws {RangeError} for anything else, and for a value that is longer than what holds it.
   */
  next(tag?: number): DerValue {
    const start = this.#at;
    const found = this.#bytes[start];
    const first = this.#bytes[start + 1];
    if (found === undefined || first === undefined) throw new RangeError('a value of ASN.1 is missing');
    if (tag !== undefined && found !== tag) throw new RangeError(`expected ASN.1 of the tag ${tag}, got ${found}`);
    let length = first;
    let begin = start + 2;
    if (first >= 0x80) {
      const count = first - 0x80;
      if (count === 0 || count > 4) throw new RangeError('a length of ASN.1 is not one of DER');
      length = 0;
      for (let i = 0; i < count; i++) length = length * 256 + (this.#bytes[begin + i] ?? 0);
      begin += count;
    }
    const end = begin + length;
    if (end > this.#bytes.length) throw new RangeError('a value of ASN.1 is cut off');
    this.#at = end;
    return { tag: found, content: this.#bytes.subarray(begin, end), whole: this.#bytes.subarray(start, end) };
  }
}
