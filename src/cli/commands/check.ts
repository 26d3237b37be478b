import { relative } from 'node:path';
import { toProblems } from '../../config/check.ts';
import { byLine, ConfigError, type ConfigProblem, formatProblem } from '../../config/config-error.ts';
import type { BrokenRule } from '../../config/fields.ts';
import { readConfig } from '../../config/load.ts';
import { checkHandlers } from '../../server/assembly/check-handlers.ts';
import { probeUpstreams } from '../../server/assembly/probe-upstreams.ts';
import type { Command } from '../command.ts';
import { configFile, configOption } from '../config-option.ts';
import { endSoon } from '../end-soon.ts';
import { examine, type Findings } from '../examine.ts';

export const check: Command = {
  summary: 'Test a configuration file without running it: errors, and warnings for what is legal but wrong.',
  options: {
    config: configOption,
    strict: { type: 'boolean', help: 'exit with 1 for warnings too' },
    probe: { type: 'boolean', help: 'dial the servers of upstreams, and look at their certificates' },
    json: { type: 'boolean', help: 'print one JSON object, for programs' },
  },
  async run({ config: named, strict, probe, json }) {
    const file = configFile(named);
    try {
      const findings = await findingsOf(file, probe === true);
      const { errors, warnings } = findings;
      console.log(json ? JSON.stringify({ file: shown(file), ...findings }) : textOf(file, findings));
      return errors.length > 0 || (strict && warnings.length > 0) ? 1 : 0;
    } finally {
      endSoon();
    }
  },
};

async function findingsOf(file: string, isProbing: boolean): Promise<Findings> {
  try {
    const read = await readConfig(file);
    const { errors, warnings } = await examine(read);
    const placed = (rules: readonly BrokenRule[]) => toProblems(rules, read.locate).map(read.hide);
    const ofHandlers = placed(await checkHandlers(read.config));
    const ofUpstreams = isProbing ? placed(await probeUpstreams(read.config)) : [];
    return { errors: [...errors, ...ofHandlers].sort(byLine), warnings: [...warnings, ...ofUpstreams].sort(byLine) };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { errors: error.problems, warnings: [] };
  }
}

function textOf(file: string, { errors, warnings }: Findings): string {
  const doubts = warnings.map(problem => ({ ...problem, message: `warning: ${problem.message}` }));
  const count = (of: readonly ConfigProblem[], what: string) =>
    of.length > 0 ? [`${of.length} ${what}${of.length > 1 ? 's' : ''}`] : [];
  const counts = [...count(errors, 'error'), ...count(warnings, 'warning')];
  return [...[...errors, ...doubts].map(formatProblem), `${shown(file)}: ${counts.join(', ') || 'ok'}`].join('\n');
}

function shown(file: string): string {
  return relative(process.cwd(), file) || file;
}
