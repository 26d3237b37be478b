import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/** Where the program itself is: its sources, or the package's built files. */
const PROGRAM = new URL('..', import.meta.url).href;

/** The path of a module that is a file of the application; undefined for what is Node's, a package's, or the program's. */
export function applicationFile(url: string | undefined): string | undefined {
  if (!url?.startsWith('file:') || url.includes('/node_modules/') || url.startsWith(PROGRAM)) return undefined;
  return fileURLToPath(url.replace(/[?#].*$/, ''));
}

export function digestOf(content: Buffer): string {
  return createHash('sha256').update(content).digest('base64');
}

/** Undefined: it cannot be read. */
export async function digestOfFile(path: string): Promise<string | undefined> {
  return readFile(path).then(digestOf, () => undefined);
}
