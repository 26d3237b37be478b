import { readFile } from 'node:fs/promises';
import type { Config } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';
import { type LineProblem, readPasswordFile } from '../../policy/auth/passwords/password-file.ts';

/** What is wrong with password files. */
export interface CheckedPasswordFiles {
  /** What makes a start fail, in the words of the start. */
  readonly faults: readonly BrokenRule[];
  /** What a start writes to the log. */
  readonly warnings: readonly BrokenRule[];
}

/** Reads the password files that a configuration names. That one cannot be read is for others to say. */
export async function checkPasswordFiles({ auth = {} }: Pick<Config, 'auth'>): Promise<CheckedPasswordFiles> {
  const faults: BrokenRule[] = [];
  const warnings: BrokenRule[] = [];
  for (const [name, scheme] of Object.entries(auth)) {
    if ((scheme.type !== 'basic' && scheme.type !== 'form') || scheme.file === undefined) continue;
    const text = await readFile(scheme.file, 'utf8').catch(() => undefined);
    if (text === undefined) continue;
    const read = readPasswordFile(text, scheme.file);
    const report = (to: BrokenRule[], problems: readonly LineProblem[]) => {
      for (const { line, message } of problems)
        to.push({ path: ['auth', name, 'file'], message: `${scheme.file} line ${line}: ${message}` });
    };
    report(faults, read.faults);
    report(warnings, read.warnings);
  }
  return { faults, warnings };
}
