import type { AcceptConfig, Config } from './config.ts';
import type { ConfigProblem } from './config-error.ts';
import type { Locate } from './parse.ts';
import { toProblems } from './to-problems.ts';
import type { Doubt, WarningCode } from './warning-codes.ts';

/** Warnings, without those that the configuration accepts. */
export interface SortedWarnings {
  readonly warnings: readonly ConfigProblem[];
  readonly accepted: readonly ConfigProblem[];
}

/**
 * Takes the warnings that `accept` names out of those that were found, and adds one for each entry that matches none:
 * what it was for is over, and it would hide the next one.
 *
 * @param wasSought Was such a warning looked for at all? Of others nobody can say that they are over.
 */
export function sortWarnings(
  found: readonly ConfigProblem[],
  { accept = [] }: Pick<Config, 'accept'>,
  locate: Locate,
  wasSought: (code: WarningCode) => boolean,
): SortedWarnings {
  const entries = accept.map((entry, index): Entry => {
    return { index, ...(typeof entry === 'string' ? { warning: entry, at: undefined } : entry) };
  });
  const idle = (of: readonly Entry[], among: readonly ConfigProblem[]) =>
    of.filter(entry => wasSought(entry.warning) && !among.some(problem => isFor(entry, problem)));
  const [onIdle, others] = [true, false].map(is =>
    entries.filter(({ warning }) => (warning === 'accept-unused') === is),
  );
  // An entry for idle entries is idle itself when there are none.
  const all = [...found, ...toProblems(idle(others!, found).map(doubtOf), locate)];
  const isAccepted = (problem: ConfigProblem) => entries.some(entry => isFor(entry, problem));
  return {
    warnings: [...all.filter(problem => !isAccepted(problem)), ...toProblems(idle(onIdle!, all).map(doubtOf), locate)],
    accepted: all.filter(isAccepted),
  };
}

function doubtOf({ warning, at, index }: Entry): Doubt {
  const place = at === undefined ? '' : ` at ${at}`;
  return {
    code: 'accept-unused',
    path: ['accept', index],
    message: `nothing here is warned of as "${warning}"${place}; remove it`,
  };
}

type Entry = Omit<AcceptConfig, 'at'> & { readonly at: string | undefined; readonly index: number };

function isFor({ warning, at }: Entry, { code, path }: ConfigProblem): boolean {
  if (code !== warning) return false;
  // `routes[1]` is not above `routes[10]`, nor `upstreams.app` above `upstreams.apple`.
  return at === undefined || path === at || path.startsWith(`${at}.`) || path.startsWith(`${at}[`);
}
