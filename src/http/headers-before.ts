import type { ServerResponse } from 'node:http';

/** The headers of a response before those of an answer are put on it, which may have to give way to another answer. */
export class HeadersBefore {
  readonly #response: ServerResponse;
  readonly #headers: readonly (readonly [name: string, value: string | number | readonly string[]])[];

  constructor(response: ServerResponse) {
    this.#response = response;
    // Copies of lists: what is appended to a header is appended to its list.
    this.#headers = response.getHeaderNames().map(name => {
      const value = response.getHeader(name)!;
      return [name, Array.isArray(value) ? [...value] : value];
    });
  }

  get areNone(): boolean {
    return this.#headers.length === 0;
  }

  restore(): void {
    const response = this.#response;
    response.statusMessage = '';
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    for (const [name, value] of this.#headers) response.setHeader(name, value);
  }
}
