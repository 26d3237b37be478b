import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/** Where the program itself is: its sources, or the package's built files, which lie as deep. */
const PROGRAM = new URL('..', import.meta.url);
/** A path and a line in a stack trace: of a frame, or above the source that could not be parsed. */
const PLACE = /(?:^|\(|\bat |file:\/\/)(\/[^\n()]+?):(\d+)/gm;

/** How long a module of the application may take to be loaded, wherever that is. */
export const LOAD_TIMEOUT_MS = 60_000;

/** The path of a module that is a file of the application; undefined for what is Node's, a package's, or the program's. */
export function applicationFile(url: string | undefined): string | undefined {
  if (!url?.startsWith('file:') || url.includes('/node_modules/') || url.startsWith(PROGRAM.href)) return undefined;
  return fileURLToPath(url.replace(/[?#].*$/, ''));
}

/** Why a module of the application cannot be loaded, and the line where that was found out. */
export function loadFailure(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const program = fileURLToPath(PROGRAM);
  for (const [, path, line] of (error.stack ?? '').matchAll(PLACE)) {
    const file = decoded(path!);
    if (!file.startsWith(program)) return `${error.message} (${file}:${line})`;
  }
  return error.message;
}

/** A frame has the URL of its module. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path.replace(/\?version=\d+$/, ''));
  } catch {
    return path;
  }
}

export function digestOf(content: Buffer): string {
  return createHash('sha256').update(content).digest('base64');
}

/** Undefined: it cannot be read. */
export async function digestOfFile(path: string): Promise<string | undefined> {
  return readFile(path).then(digestOf, () => undefined);
}
