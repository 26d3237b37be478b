import { readFile } from 'node:fs/promises';
import type { Config, RouteConfig, SessionConfig } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';
import { keyFileProblem } from './session-contexts.ts';

/** What makes a start fail because of the keys of sessions. That a file cannot be read is for others to say. */
export async function checkKeyFiles({ session, routes = [] }: Config): Promise<BrokenRule[]> {
  const faults: BrokenRule[] = [];
  for (const { sessions, at } of [{ sessions: session, at: ['session'] }, ...sessionsBelow(routes, ['routes'])])
    for (const [index, file] of ((sessions || {}) as SessionConfig).keyFiles?.entries() ?? []) {
      const content = await readFile(file).catch(() => undefined);
      const message = content && keyFileProblem(content, file);
      if (message) faults.push({ path: [...at, 'keyFiles', index], message });
    }
  return faults;
}

interface Sessions {
  readonly sessions: Config['session'];
  readonly at: readonly PropertyKey[];
}

/** Of mounted applications. */
function* sessionsBelow(routes: readonly RouteConfig[], at: readonly PropertyKey[]): Generator<Sessions> {
  for (const [index, { application }] of routes.entries()) {
    if (!application) continue;
    const below = [...at, index, 'application'];
    yield { sessions: application.session, at: [...below, 'session'] };
    yield* sessionsBelow(application.routes ?? [], [...below, 'routes']);
  }
}
