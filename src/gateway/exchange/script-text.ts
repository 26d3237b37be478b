/** The text of a script, which may hold other scripts (HTML standard §13.2.5.18 to 31). */
export class ScriptText {
  #state: 'plain' | 'escaped' | 'doubly escaped' = 'plain';
  #rest = '';

  /** The end tag that was found is one of the text. */
  get isDoublyEscaped(): boolean {
    return this.#state === 'doubly escaped';
  }

  read(text: string): void {
    const all = this.#rest + text;
    let done = 0;
    for (const { 0: found, index } of all.matchAll(/<!--|-->|<script(?=[\t\n\f\r />])/gi)) {
      done = index + found.length;
      if (found === '-->') this.#state = 'plain';
      else if (found === '<!--') this.#state = this.#state === 'plain' ? 'escaped' : this.#state;
      else if (this.#state === 'escaped') this.#state = 'doubly escaped';
      // `<!-->` is all of it.
      if (found === '<!--') done -= 2;
    }
    this.#rest = all.slice(Math.max(done, all.length - 8));
  }

  reset(): void {
    this.#state = 'plain';
    this.#rest = '';
  }
}
