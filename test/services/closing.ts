import { afterEach } from 'vitest';

export interface Closable {
  close(): unknown;
}

/** A list of what the tests of a file, or of a `describe`, have open: closed after each of them, the latest first. */
export function closing<T extends Closable = Closable>(): T[] {
  const open: T[] = [];
  afterEach(async () => {
    for (const one of open.splice(0).reverse()) await one.close();
  });
  return open;
}
