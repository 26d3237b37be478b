import { type ConfigProblem, formatPath } from './config-error.ts';
import type { BrokenRule } from './fields.ts';
import type { Locate } from './parse.ts';
import type { Doubt } from './warning-codes.ts';

/** With the places in the file. */
export function toProblems(rules: Iterable<BrokenRule | Doubt>, locate: Locate): ConfigProblem[] {
  return [...rules].map(({ path, ...rule }) => ({ ...rule, path: formatPath(path), ...locate(path) }));
}
