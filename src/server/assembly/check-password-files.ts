import { readFile } from 'node:fs/promises';
import type { Config } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';
import type { Doubt } from '../../config/warning-codes.ts';
import { type LineProblem, readPasswordFile } from '../../policy/auth/passwords/password-file.ts';

/** What is wrong with password files. */
export interface CheckedPasswordFiles {
  /** What makes a start fail, in the words of the start. */
  readonly faults: readonly BrokenRule[];
  /** What a start writes to the log. */
  readonly warnings: readonly Doubt[];
}

/** Reads the password files that a configuration names. That one cannot be read is for others to say. */
export async function checkPasswordFiles({ auth = {} }: Pick<Config, 'auth'>): Promise<CheckedPasswordFiles> {
  const faults: BrokenRule[] = [];
  const warnings: Doubt[] = [];
  for (const [name, scheme] of Object.entries(auth)) {
    if ((scheme.type !== 'basic' && scheme.type !== 'form') || scheme.file === undefined) continue;
    const text = await readFile(scheme.file, 'utf8').catch(() => undefined);
    if (text === undefined) continue;
    const read = readPasswordFile(text, scheme.file);
    const ruleOf = ({ line, message }: LineProblem): BrokenRule => ({
      path: ['auth', name, 'file'],
      message: `${scheme.file} line ${line}: ${message}`,
    });
    faults.push(...read.faults.map(ruleOf));
    warnings.push(...read.warnings.map(problem => ({ code: problem.kind, ...ruleOf(problem) })));
  }
  return { faults, warnings };
}
