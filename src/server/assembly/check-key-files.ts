import { readFile } from 'node:fs/promises';
import type { Config } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';
import { describedSessions } from './described-sessions.ts';
import { keyFileProblem } from './session-contexts.ts';

/** What makes a start fail because of the keys of sessions. That a file cannot be read is for others to say. */
export async function checkKeyFiles(config: Config): Promise<BrokenRule[]> {
  const faults: BrokenRule[] = [];
  for (const { session, at } of describedSessions(config))
    for (const [index, file] of session.keyFiles?.entries() ?? []) {
      const content = await readFile(file).catch(() => undefined);
      const message = content && keyFileProblem(content, file);
      if (message) faults.push({ path: [...at, 'keyFiles', index], message });
    }
  return faults;
}
