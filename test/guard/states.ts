import { test } from 'vitest';

/**
 * Tests that each wait for seconds, begun together. A row stands in the name of its test as `$key`.
 *
 * `begin` goes to the end of `beforeAll`, `tests` to the end of the file.
 */
export class States {
  readonly #all: { readonly name: string; readonly run: () => Promise<void> }[] = [];
  #results: Promise<unknown>[] = [];

  add<T extends object>(name: string, rows: readonly T[], run: (row: T) => Promise<void>): void {
    for (const row of rows) {
      const full = Object.entries(row).reduce((text, [key, value]) => text.replace(`$${key}`, String(value)), name);
      this.#all.push({ name: full, run: () => run(row) });
    }
  }

  begin(): void {
    this.#results = this.#all.map(({ run }) =>
      run().then(
        () => undefined,
        (error: unknown) => error,
      ),
    );
  }

  tests(): void {
    test.each(this.#all.map(({ name }, index) => ({ name, index })))('$name', async ({ index }) => {
      const error = await this.#results[index];
      if (error !== undefined) throw error;
    });
  }
}
