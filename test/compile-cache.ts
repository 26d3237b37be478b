import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Hundreds of tests start the product as a program of its own, each time from its sources: without a cache of what they
 * compile to, that is half of the time of a start. It lives as long as the run, so that nothing of it can be old.
 */
export default function setup(): (() => void) | undefined {
  // Of the projects of one run the first makes it.
  if (process.env.NODE_COMPILE_CACHE !== undefined) return undefined;
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-compiled-'));
  process.env.NODE_COMPILE_CACHE = folder;
  return () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
}
