import { relative } from 'node:path';
import { ConfigError, type ConfigProblem, formatProblem } from '../../config/config-error.ts';
import { readConfig } from '../../config/load.ts';
import { escapeJson } from '../../server/log/escape.ts';
import type { Command } from '../command.ts';
import { configFile, configOption } from '../config-option.ts';
import { examine, type Findings } from '../examine.ts';
import { explainWarning, WARNING_PAGE } from '../warning-page.ts';

export const check: Command = {
  summary: 'Test a configuration file without running it: errors, and warnings for what is legal but wrong.',
  options: {
    config: configOption,
    strict: { type: 'boolean', help: 'exit with 1 for warnings too' },
    probe: { type: 'boolean', help: 'dial upstreams, stores of sessions, and issuers' },
    json: { type: 'boolean', help: 'print one JSON object, for programs' },
    explain: { type: 'string', placeholder: 'CODE', help: 'print what a warning means and what to do, and end' },
  },
  async run({ config: named, strict, probe, json, explain }) {
    if (typeof explain === 'string') {
      console.log(explainWarning(explain));
      return 0;
    }
    let file: string;
    try {
      file = configFile(named);
    } catch (error) {
      // A program reads an object whatever is wrong.
      if (!json || !(error instanceof ConfigError)) throw error;
      console.log(jsonOf('', failed(error)));
      return 1;
    }
    const findings = await findingsOf(file, probe === true);
    const { errors, warnings } = findings;
    console.log(json ? jsonOf(shown(file), findings) : textOf(file, findings));
    return errors.length > 0 || (strict && warnings.length > 0) ? 1 : 0;
  },
};

async function findingsOf(file: string, probe: boolean): Promise<Findings> {
  try {
    return await examine(await readConfig(file), { handlers: true, probe });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return failed(error);
  }
}

function failed({ problems }: ConfigError): Findings {
  return { errors: problems, warnings: [], accepted: [] };
}

function jsonOf(file: string, findings: Findings): string {
  return escapeJson(JSON.stringify({ file, ...findings }));
}

function textOf(file: string, { errors, warnings, accepted }: Findings): string {
  const doubts = warnings.map(problem => ({ ...problem, message: `warning: ${problem.message}` }));
  const count = (of: readonly ConfigProblem[], what: string, more = '') =>
    of.length > 0 ? [`${of.length} ${what}${of.length > 1 ? 's' : ''}${more}`] : [];
  const counts = [...count(errors, 'error'), ...count(warnings, 'warning')].join(', ') || 'ok';
  const all = [counts, ...count(accepted, 'warning', ' accepted')].join(', ');
  const more = warnings.length > 0 ? [`what a [code] means: holdfast check --explain CODE, or ${WARNING_PAGE}`] : [];
  return [...[...errors, ...doubts].map(formatProblem), `${shown(file)}: ${all}`, ...more].join('\n');
}

function shown(file: string): string {
  return relative(process.cwd(), file) || file;
}
