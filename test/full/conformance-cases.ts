import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { inject } from 'vitest';

declare module 'vitest' {
  interface ProvidedContext {
    /** Messages of a case of permessage-deflate through a relay: `npm run test:soak` provides 50. */
    relayedMessages?: number;
  }
}

/** Messages of each case of permessage-deflate. An endpoint keeps state from one to the next. */
export const MESSAGES = 50;
/** The same through a relay, which passes compressed messages on without reading them: a few of each case show faults. */
export const RELAYED_MESSAGES: number = inject('relayedMessages') ?? 10;

export interface Result {
  readonly id: string;
  readonly behavior: string;
  readonly close: string;
  readonly detail: string;
}

/** Each group of the README beside the cases: the number of cases it holds there, and its arguments for that many messages. */
export const GROUPS = [
  ['protocol', 247, () => ['1.*,2.*,3.*,4.*,5.*,6.*,7.*,10.*']],
  ['large messages', 54, () => ['9.*', '--jobs', '2']],
  ['permessage-deflate', 216, (messages: number) => ['12.*,13.*', '--count', String(messages), '--jobs', '4']],
] as const;

const folder =
  process.env.HOLDFAST_CONFORMANCE ?? fileURLToPath(new URL('../../../shared/conformance', import.meta.url));
export const arePresent: boolean = existsSync(join(folder, 'autobahn-replay.mjs'));
if (!arePresent)
  console.log(`conformance cases not found in ${folder}: skipped; set HOLDFAST_CONFORMANCE to their folder`);

/** What the client says of a server that did not close in time: without a close frame, or without the end of TCP. */
const LATE = new Set(['UNCLEAN', 'SERVER DID NOT DROP TCP']);

/**
 * What a server makes of a group of cases.
 *
 * The client has a second for the close frame of the server and another for the end of the connection, and may itself
 * be busy for longer with another case of megabytes on a small machine. What came too late is therefore tried again,
 * alone.
 *
 * @param url Of the echo, `http:`.
 */
export async function replay(url: string, args: readonly string[]): Promise<Result[]> {
  const results = await run(url, args);
  const late = results.filter(({ close }) => LATE.has(close)).map(({ id }) => id);
  if (late.length === 0 || late.length === results.length) return results;
  const again = new Map(
    (await run(url, [late.join(','), '--count', String(MESSAGES), '--jobs', '1'])).map(result => [result.id, result]),
  );
  return results.map(result => again.get(result.id) ?? result);
}

/** What two servers of the same kind are compared by. */
export interface Verdict {
  readonly id: string;
  readonly behavior: string;
  readonly close: string;
}

/**
 * The cases whose outcome RFC 6455 leaves open, and in which a relay judges before its backend does: 7.1.6, 7.13.1 and
 * 7.13.2.
 */
const UNDECIDED = /^(?:7\.1\.6|7\.13\.\d)$/;

/** Without what is undecided; several run at once, and end in any order. */
export function verdictsOf(results: readonly Result[]): Verdict[] {
  return results
    .filter(({ id }) => !UNDECIDED.test(id))
    .map(({ id, behavior, close }) => ({ id, behavior, close }))
    .sort((a, b) => a.id.localeCompare(b.id));
}

async function run(url: string, args: readonly string[]): Promise<Result[]> {
  const reports = await mkdtemp(join(tmpdir(), 'holdfast-conformance-'));
  const report = join(reports, 'report.json');
  const command = [join(folder, 'autobahn-replay.mjs'), join(folder, 'autobahn-cases.json')];
  try {
    // It exits with 1 on failures; the report says more than its output.
    await promisify(execFile)(process.execPath, [
      ...command,
      url.replace(/^http/, 'ws'),
      ...args,
      '--json',
      report,
    ]).catch(() => {});
    return JSON.parse(readFileSync(report, 'utf8'));
  } finally {
    await rm(reports, { recursive: true });
  }
}
