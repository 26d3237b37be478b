import { type ErrorCode, HoldfastError } from '../base/errors.ts';

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

/** `file:line: path: message`, without the parts that are not known. */
export function formatProblem(problem: ConfigProblem): string {
  const place = problem.file === undefined ? [] : [problem.line ? `${problem.file}:${problem.line}` : problem.file];
  const path = problem.path === '' ? [] : [problem.path];
  return [...place, ...path, problem.message].join(': ');
}

/** Orders problems as their places stand in the file. */
export function byLine(a: ConfigProblem, b: ConfigProblem): number {
  return (a.line ?? 0) - (b.line ?? 0);
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
