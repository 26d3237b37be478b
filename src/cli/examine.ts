import { checkConfig, toProblems } from '../config/check.ts';
import { checkFiles } from '../config/check-files.ts';
import { checkRevocationLists } from '../config/check-revocation-lists.ts';
import { byLine, type ConfigProblem } from '../config/config-error.ts';
import type { ReadConfig } from '../config/load.ts';
import { checkAllOrNone } from '../server/assembly/all-or-none.ts';
import { checkConstraints } from '../server/assembly/check-constraints.ts';
import { checkKeyFiles } from '../server/assembly/check-key-files.ts';
import { checkPasswordFiles } from '../server/assembly/check-password-files.ts';
import { checkSchemeFiles } from '../server/assembly/check-scheme-files.ts';
import { checkStricterRoutes } from '../server/assembly/stricter-routes.ts';
import { checkCertificates } from '../server/listen/check-certificates.ts';

/** What is to be said of a configuration, in the order of its file. */
export interface Findings {
  /** Each would make a start fail. */
  readonly errors: readonly ConfigProblem[];
  /** What is legal but will not do what was meant. */
  readonly warnings: readonly ConfigProblem[];
}

/**
 * Looks at a configuration that was read, and at the files that it names, as a start does. Nothing is opened, and no
 * handler is loaded.
 */
export async function examine({ config, locate, hide }: ReadConfig): Promise<Findings> {
  const now = Date.now();
  const passwords = await checkPasswordFiles(config);
  const lists = await checkRevocationLists(config, now);
  const certificates = await checkCertificates(config, now);
  const read = [...(await checkSchemeFiles(config)), ...(await checkKeyFiles(config))];
  const faults = toProblems([...read, ...certificates.faults, ...passwords.faults, ...lists.errors], locate);
  const ofRoutes = [...checkStricterRoutes(config), ...checkConstraints(config), ...checkAllOrNone(config)];
  const doubts = [...ofRoutes, ...certificates.warnings, ...passwords.warnings, ...lists.warnings];
  const inOrder = (problems: readonly ConfigProblem[]) => problems.map(hide).sort(byLine);
  return {
    errors: inOrder([...(await checkFiles(config, locate)), ...faults]),
    warnings: inOrder([...checkConfig(config, locate), ...toProblems(doubts, locate)]),
  };
}
