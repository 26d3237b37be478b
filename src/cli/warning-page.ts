import { readFileSync } from 'node:fs';
import { nearestName } from '../base/nearest-name.ts';
import { isWarningCode, WARNING_CODES } from '../config/warning-codes.ts';
import { UsageError } from './command.ts';

/** Where the warnings are explained, as its readers know it. */
export const WARNING_PAGE = 'docs/reference/config-warnings.md';

/**
 * What the documentation says of one kind of warning.
 *
 * @throws {UsageError} when there is no such kind.
 */
export function explainWarning(code: string): string {
  if (!isWarningCode(code)) {
    const near = nearestName(code, WARNING_CODES);
    const remedy = near ? `did you mean "${near}"?` : `it is one of ${WARNING_CODES.join(', ')}`;
    throw new UsageError(`check: "${code}" is not the code of a warning; ${remedy}`);
  }
  const page = readFileSync(new URL(`../../${WARNING_PAGE}`, import.meta.url), 'utf8');
  const section = page.split(/^(?=#{2,3} )/m).find(part => part.startsWith(`### ${code}\n`));
  return section?.slice('### '.length).trimEnd() ?? code;
}
