import { isOverLimit, type Result, type Row, type Suite } from './comparison.ts';

const WIDTHS = [34, 12, 9, 9, 15, 20, 5, 4] as const;

export function headingOf(name: string, suite: Suite): string {
  const columns = ['row', 'peer', 'ours', 'theirs', 'unit', 'ratio (min..max)', 'limit', ''];
  return `\n${name}: ${suite.title}\n${columnsOf(columns)}`;
}

export function lineOf({ row, ratios, reason }: Result): string {
  const { peer, ours, theirs, unit, ratio, limit } = row;
  if (ratio === null) return `${columnsOf([row.row, peer, '', 'not found', unit])}  ${reason ?? ''}`;
  const spread = `${ratio.toFixed(2)} (${Math.min(...ratios).toFixed(2)}..${Math.max(...ratios).toFixed(2)})`;
  const verdict = limit === null ? '' : isOverLimit(row) ? 'OVER' : 'ok';
  return columnsOf([row.row, peer, figure(ours), figure(theirs), unit, spread, limit?.toString() ?? '-', verdict]);
}

export function summaryOf(rows: readonly Row[]): string {
  const over = rows.filter(isOverLimit);
  if (over.length === 0) return `\n${rows.length} rows, none over its limit`;
  const list = over.map(({ row, peer, ratio, limit }) => `  ${row} / ${peer}: ${ratio!.toFixed(3)}, limit ${limit}`);
  return `\n${over.length} of ${rows.length} rows over the limit:\n${list.join('\n')}`;
}

function figure(value: Row['ours'] | Row['theirs']): string {
  return typeof value === 'number' ? value.toPrecision(4).replace(/\.$/, '') : '';
}

function columnsOf(texts: readonly string[]): string {
  return texts
    .map((text, index) => text.padEnd(WIDTHS[index]!))
    .join('  ')
    .trimEnd();
}
