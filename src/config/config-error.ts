import { type ErrorCode, HoldfastError } from '../base/errors.ts';
import type { WarningCode } from './warning-codes.ts';

/** One thing that is wrong (or, from `checkConfig`, doubtful) in a configuration, and where. */
export interface ConfigProblem {
  /** For example `routes[1].upstream`; `''` for the document as a whole. */
  readonly path: string;
  /** What is wrong, with which value, and what to do. */
  readonly message: string;
  readonly file?: string;
  /** 1 is the first. Known for YAML and JSON only. */
  readonly line?: number;
  readonly column?: number;
  /** Of a warning: its kind, with a section in `docs/reference/config-warnings.md`. */
  readonly code?: WarningCode;
}

/**
 * A configuration that cannot be used. Holds every problem found, not just the first.
 *
 * @example
 * import { ConfigError, createServer } from 'holdfast';
 *
 * try {
 *   createServer({ listen: [{ port: 80_000 }] });
 * } catch (error) {
 *   if (error instanceof ConfigError) console.log(error.problems[0]?.path); // listen[0].port
 * }
 */
export class ConfigError extends HoldfastError {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[], code: ErrorCode = 'ERR_CONFIG_INVALID', cause?: unknown) {
    super(code, problems.map(formatProblem).join('\n'), { cause });
    this.problems = problems;
  }
}

/** `file:line:column: path: message [code]`, without the parts that are not known. */
export function formatProblem({ file, line, column, path, message, code }: ConfigProblem): string {
  const place = [file, line, column].slice(0, line === undefined ? 1 : 3).filter(part => part !== undefined);
  const text = code === undefined ? message : `${message} [${code}]`;
  return [...(file === undefined ? [] : [place.join(':')]), ...(path === '' ? [] : [path]), text].join(': ');
}

/** Orders problems as their places stand in the file, and those of several files by their names. */
export function byPlace(a: ConfigProblem, b: ConfigProblem): number {
  const [one, other] = [a.file ?? '', b.file ?? ''];
  if (one !== other) return one < other ? -1 : 1;
  return (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0);
}

/** `['routes', 1, 'my app']` becomes `routes[1]["my app"]`. */
export function formatPath(path: readonly PropertyKey[]): string {
  let out = '';
  for (const step of path) {
    if (typeof step === 'number') out += `[${step}]`;
    else if (/^[A-Za-z_$][\w$-]*$/.test(String(step))) out += out === '' ? String(step) : `.${String(step)}`;
    else out += `[${JSON.stringify(String(step))}]`;
  }
  return out;
}
