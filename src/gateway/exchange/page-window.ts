/** A longer tail becomes part of what is in one piece. */
const MAX_TAIL = 1_024;

/**
 * The end of a text that comes in pieces, by places in the whole of it.
 *
 * To read from a text that was just added to, all of it is copied. What came last is therefore apart: however small the
 * pieces are, the time for them grows with the text and no faster.
 */
export class PageWindow {
  #text = '';
  #begin = 0;
  #tail = '';
  #tailBegin = 0;

  /** How much has come. */
  get length(): number {
    return this.#tailBegin + this.#tail.length;
  }

  /** From here on the text is still there. */
  get begin(): number {
    return this.#begin;
  }

  add(piece: string): void {
    if (this.#tail.length > MAX_TAIL) {
      this.#text += this.#tail;
      this.#tailBegin += this.#tail.length;
      this.#tail = '';
    }
    this.#tail += piece;
  }

  slice(start: number, end: number): string {
    const tailEnd = end - this.#tailBegin;
    if (start >= this.#tailBegin) return this.#tail.slice(start - this.#tailBegin, tailEnd);
    const text = this.#text.slice(start - this.#begin, end - this.#begin);
    return tailEnd > 0 ? text + this.#tail.slice(0, tailEnd) : text;
  }

  /** What is before this place is not asked for any more. */
  forget(until: number): void {
    if (until <= this.#begin) return;
    if (until < this.#tailBegin) this.#text = this.#text.slice(until - this.#begin);
    else {
      this.#text = '';
      this.#tail = this.#tail.slice(until - this.#tailBegin);
      this.#tailBegin = until;
    }
    this.#begin = until;
  }
}
