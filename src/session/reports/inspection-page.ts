import { toText } from '../../http/html-text.ts';
import type { SessionInfo } from '../session-info.ts';
import type { SessionMinute } from './history.ts';
import type { SessionStatistics } from './statistics.ts';
import type { StatisticsOfAll } from './statistics-of-all.ts';

/** What the inspector answers a program that asks for JSON. */
export interface Inspection {
  /** Of the process that answers. */
  readonly statistics: SessionStatistics;
  /** The same by the minute. */
  readonly history: readonly SessionMinute[];
  /** Of all processes that share the ledger, with their sum. */
  readonly all: StatisticsOfAll;
  readonly count: number;
  readonly sessions: readonly SessionInfo[];
  /** There are more than are shown. */
  readonly isPartial: boolean;
}

/** The page of an inspection. What users chose is never markup in it. */
export function inspectionPage({ statistics, history, all, count, sessions, isPartial }: Inspection): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Sessions</title>
<style>
  body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; }
  table { border-collapse: collapse; margin-block: 1rem; }
  th, td { text-align: left; vertical-align: top; padding: .25rem .75rem; border-bottom: 1px solid #8884; }
  td.number { text-align: right; font-variant-numeric: tabular-nums; }
</style>
<h1>Sessions</h1>
<form><label>User <input name="user"></label> <button>Show</button> <a href="?">All</a></form>
<p>${count} in the store${isPartial ? `, the first ${sessions.length} of them here` : ''}.</p>
<table>
<tr><th>Session<th>Owner<th>Created<th>Last access<th>Ends at the latest<th>Attributes<th>
${sessions.map(toRow).join('\n')}
</table>
<h2>Counters</h2>
<p>${all.processes.length === 1 ? 'One process' : `${all.processes.length} processes`}${all.isComplete ? '' : '; not all of them have answered'}.</p>
<table>
<tr><th>${columnsOf(all)
    .map(({ title }) => `<th>${toText(title)}`)
    .join('')}
${toRows([
  statistics,
  ...columnsOf(all)
    .slice(1)
    .map(column => column.statistics),
])}
</table>
<h2>The last hour of this process</h2>
<table>
<tr><th>${MINUTE_COLUMNS.map(([title]) => `<th>${title}`).join('')}
${history
  .toReversed()
  .map(
    minute =>
      `<tr><th>${time(minute.at).slice(11, 16)}${MINUTE_COLUMNS.map(([, of]) => `<td class="number">${of(minute)}`).join('')}`,
  )
  .join('\n')}
</table>
</html>
`;
}

const MINUTE_COLUMNS: readonly (readonly [title: string, of: (minute: SessionMinute) => number])[] = [
  ['Created', ({ created }) => created],
  ['Ended', ({ ended }) => ended],
  ['Accesses', ({ sinceLastAccessMs }) => sinceLastAccessMs.count],
  ['Affinity breaks', ({ affinityBreaks }) => affinityBreaks],
  ['No room', ({ noRoom }) => noRoom],
  ['Active at most', ({ active }) => active.peak],
  ['In memory at most', ({ live }) => live.peak],
  ['Store calls', ({ reads, glances, writes }) => reads.count + glances.count + writes.count],
  ['Failed', ({ reads, glances, writes }) => reads.failures + glances.failures + writes.failures],
];

interface Column {
  readonly title: string;
  readonly statistics: SessionStatistics;
}

/** This process; and where there are others, those, each machine where there are several, and the sum. */
function columnsOf({ processes, machines, sum }: StatisticsOfAll): Column[] {
  const [own, ...others] = processes.map(({ host, pid, statistics }, index) => {
    return { title: index === 0 ? `This process (${host} ${pid})` : `${host} ${pid}`, statistics };
  });
  if (others.length === 0) return [own!];
  const perMachine = machines.map(machine => ({ title: `${machine.host}, together`, statistics: machine.sum }));
  const shown = others.slice(0, MAX_COLUMNS);
  return [own!, ...shown, ...(machines.length > 1 ? perMachine : []), { title: 'All together', statistics: sum }];
}

const MAX_COLUMNS = 20;

function toRows(columns: readonly SessionStatistics[]): string {
  const lines = columns.map(statistics => counters(statistics));
  return lines[0]!
    .map(([name], row) => {
      const cells = lines.map(line => `<td class="number">${toText(line[row]?.[1] ?? '')}`);
      return `<tr><th>${toText(name)}${cells.join('')}`;
    })
    .join('\n');
}

function toRow(info: SessionInfo): string {
  const cells = [
    `${toText(info.sid.slice(0, 8))}…${info.isLive ? ' (live)' : ''}`,
    toText(info.owner ? `${info.owner.name} (${info.owner.roles.join(', ') || 'no roles'})` : ''),
    time(info.createdAt),
    time(info.lastAccessedAt),
    `${info.absoluteExpiresAt === undefined ? 'never' : time(info.absoluteExpiresAt)}${info.isPersistent ? ' (persistent cookie)' : ''}`,
    info.attributes.map(({ name, bytes }) => `${toText(name)}: ${bytes} bytes`).join('<br>'),
    `<form method="post" enctype="text/plain"><input type="hidden" name="sid" value="${toText(info.sid)}"><button>End</button></form>`,
  ];
  return `<tr><td>${cells.join('<td>')}`;
}

/** `reads.count` and so on, one line for each number. */
function counters(value: object, prefix = ''): [string, string][] {
  // The slowest calls differ in number.
  const entries = Object.entries(value).filter(([name]) => name !== 'slowest');
  return entries.flatMap(([name, entry]): [string, string][] => {
    const path = prefix === '' ? name : `${prefix}.${name}`;
    if (typeof entry === 'object' && entry !== null) return counters(entry, path);
    const isFraction = typeof entry === 'number' && !Number.isInteger(entry);
    return [[path, isFraction ? entry.toFixed(2) : String(entry)]];
  });
}

function time(ms: number): string {
  if (Number.isNaN(new Date(ms).getTime())) return 'never'; // no calendar goes so far
  return new Date(ms).toISOString().replace('T', ' ').slice(0, 19);
}
