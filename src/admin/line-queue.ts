/** Lines, and characters of them, that wait for one reader at most. */
const MOST_LINES = 2_000;
const MOST_CHARACTERS = 1_048_576;

/** Where lines go. */
export interface LineReader {
  /** @returns false: it has enough for now, and `resume` is called when it wants more. */
  write(text: string): boolean;
}

/**
 * Lines on their way to somebody who reads them, as JSON. What a slow reader does not take is dropped and counted: it
 * holds nobody up and fills no memory. `{ "lost": 12 }` stands where lines are missing.
 */
export class LineQueue {
  readonly #reader: LineReader;
  readonly #lines: string[] = [];
  #characters = 0;
  #lost = 0;
  #isWaiting = false;

  constructor(reader: LineReader) {
    this.#reader = reader;
  }

  push(line: object): void {
    const text = `${JSON.stringify(line)}\n`;
    if (!this.#isWaiting) {
      this.#isWaiting = !this.#reader.write(text);
      return;
    }
    if (this.#lost > 0 || this.#lines.length >= MOST_LINES || this.#characters + text.length > MOST_CHARACTERS) {
      this.#lost++;
      return;
    }
    this.#lines.push(text);
    this.#characters += text.length;
  }

  /** The reader wants more. */
  resume(): void {
    this.#isWaiting = false;
    if (this.#lines.length > 0) {
      const text = this.#lines.splice(0).join('');
      this.#characters = 0;
      this.#isWaiting = !this.#reader.write(text);
    }
    if (this.#lost === 0) return;
    const lost = this.#lost;
    this.#lost = 0;
    if (!this.#reader.write(`${JSON.stringify({ lost })}\n`)) this.#isWaiting = true;
  }
}
