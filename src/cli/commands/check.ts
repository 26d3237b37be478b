import { relative } from 'node:path';
import { checkConfig, toProblems } from '../../config/check.ts';
import { checkFiles } from '../../config/check-files.ts';
import { checkRevocationLists } from '../../config/check-revocation-lists.ts';
import { byLine, ConfigError, formatProblem } from '../../config/config-error.ts';
import { readConfig } from '../../config/load.ts';
import { checkAllOrNone } from '../../server/assembly/all-or-none.ts';
import { checkConstraints } from '../../server/assembly/check-constraints.ts';
import { checkHandlers } from '../../server/assembly/check-handlers.ts';
import { checkKeyFiles } from '../../server/assembly/check-key-files.ts';
import { checkPasswordFiles } from '../../server/assembly/check-password-files.ts';
import { checkSchemeFiles } from '../../server/assembly/check-scheme-files.ts';
import { checkStricterRoutes } from '../../server/assembly/stricter-routes.ts';
import { checkCertificates } from '../../server/listen/check-certificates.ts';
import type { Command } from '../command.ts';
import { configFile, configOption } from '../config-option.ts';
import { endSoon } from '../end-soon.ts';

export const check: Command = {
  summary: 'Test a configuration file without running it: errors, and warnings for what is legal but wrong.',
  options: { config: configOption, strict: { type: 'boolean', help: 'exit with 1 for warnings too' } },
  async run({ config: named, strict }) {
    const file = configFile(named);
    try {
      const { config, locate, hide } = await readConfig(file);
      const passwords = await checkPasswordFiles(config);
      const lists = await checkRevocationLists(config, Date.now());
      const keys = [...(await checkCertificates(config)), ...(await checkKeyFiles(config))];
      const read = [...(await checkHandlers(config)), ...(await checkSchemeFiles(config)), ...keys];
      const faults = [...read, ...passwords.faults, ...lists.errors];
      const errors = [...(await checkFiles(config, locate)), ...toProblems(faults, locate)].sort(byLine);
      const ofUsers = [...checkConstraints(config), ...checkAllOrNone(config)];
      const doubts = [...checkStricterRoutes(config), ...ofUsers, ...passwords.warnings, ...lists.warnings];
      const warnings = [...checkConfig(config, locate), ...toProblems(doubts, locate)];
      for (const problem of errors) console.log(formatProblem(hide(problem)));
      for (const problem of warnings.sort(byLine))
        console.log(formatProblem(hide({ ...problem, message: `warning: ${problem.message}` })));
      console.log(summary(file, errors.length, warnings.length));
      return errors.length > 0 || (strict && warnings.length > 0) ? 1 : 0;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      console.log(error.message);
      console.log(summary(file, error.problems.length, 0));
      return 1;
    } finally {
      endSoon();
    }
  },
};

function summary(file: string, errors: number, warnings: number): string {
  const count = (n: number, what: string) => (n > 0 ? [`${n} ${what}${n > 1 ? 's' : ''}`] : []);
  const counts = [...count(errors, 'error'), ...count(warnings, 'warning')];
  return `${relative(process.cwd(), file) || file}: ${counts.join(', ') || 'ok'}`;
}
