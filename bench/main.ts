import { existsSync, readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { betweenCheckouts, compare, type Effort, isOverLimit, type Row, type Suite } from './comparison.ts';
import { pathOf } from './program.ts';
import { headingOf, lineOf, summaryOf } from './report.ts';

const FULL: Effort = { pairs: 5, warmUpMs: 3000, measureMs: 3000 };
const QUICK: Effort = { pairs: 2, warmUpMs: 1500, measureMs: 1000 };

/** What a change may cost that is not about speed. */
const DEFAULT_LIMIT = 1.02;

const USAGE = `npm run bench -- [suite ...] [--row TEXT] [--quick] [--json FILE] [--against PATH [--limit N]]

  suite        one of: ${suiteNames().join(', ')}. Default: all.
  --row TEXT   only rows whose name or peer contains TEXT.
  --quick      ${QUICK.pairs} short pairs of runs instead of ${FULL.pairs} long ones.
  --json FILE  also writes the rows to FILE.
  --against PATH
               the same rows with the servers of another checkout of this repository
               in the place of the peers. Its packages must be installed.
  --limit N    with --against: the largest ratio that passes. Default ${DEFAULT_LIMIT}.

Exit status: 0 when every ratio is within its limit, 1 when one is not, 2 when the command line is wrong.`;

process.exitCode = await main();

async function main(): Promise<number> {
  let options: ReturnType<typeof parseCommandLine>;
  try {
    options = parseCommandLine();
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  if (options.help) {
    console.log(USAGE);
    return 0;
  }

  const rows: Row[] = [];
  for (const name of options.suites) {
    const { suite } = (await import(`./suites/${name}.ts`)) as { suite: Suite };
    console.log(headingOf(name, suite));
    const { against, limit } = options;
    const comparisons = against === undefined ? suite.comparisons : betweenCheckouts(suite, against, limit);
    for (const comparison of comparisons) {
      if (!`${comparison.row} ${comparison.peer}`.includes(options.row)) continue;
      const result = await compare(name, comparison, options.effort);
      console.log(lineOf(result));
      rows.push(result.row);
    }
  }
  console.log(summaryOf(rows));
  if (options.json) await writeFile(options.json, `${JSON.stringify(rows, null, 2)}\n`);
  return rows.some(isOverLimit) ? 1 : 0;
}

function parseCommandLine() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      row: { type: 'string', default: '' },
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      against: { type: 'string' },
      limit: { type: 'string', default: String(DEFAULT_LIMIT) },
      help: { type: 'boolean', default: false },
    },
  });
  const known = suiteNames();
  for (const name of positionals) {
    if (!known.includes(name)) throw new TypeError(`there is no suite "${name}"; there are: ${known.join(', ')}`);
  }
  const limit = Number(values.limit);
  if (!(limit > 0)) throw new TypeError(`--limit must be a number above 0, not "${values.limit}"`);
  const against = values.against && resolve(values.against);
  if (against !== undefined && !existsSync(join(against, 'bench/servers')))
    throw new TypeError(`--against must name a checkout of this repository; ${against} has no bench/servers`);
  return {
    suites: positionals.length > 0 ? positionals : known,
    row: values.row,
    effort: values.quick ? QUICK : FULL,
    json: values.json,
    against,
    limit,
    help: values.help,
  };
}

function suiteNames(): string[] {
  return readdirSync(pathOf('suites'))
    .map(file => file.replace(/\.ts$/, ''))
    .sort();
}
