import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { missing } from '../services/proxies.ts';
import type { Case, Pair, Section } from './apache/comparison.ts';
import { forwarded, trusted } from './apache/forwarded.ts';
import { hopByHop } from './apache/hop-by-hop.ts';
import { matching } from './apache/matching.ts';
import { mistakes } from './apache/mistakes.ts';
import { rewriting } from './apache/rewriting.ts';
import { headerTracking, sessionHeader } from './apache/session-header.ts';
import { statusCodes } from './apache/status-codes.ts';
import { sticky, strictSticky, weblogicSticky } from './apache/sticky.ts';

const sections: readonly Section[] = [
  statusCodes,
  matching,
  rewriting,
  hopByHop,
  forwarded,
  trusted,
  sessionHeader,
  headerTracking,
  sticky,
  strictSticky,
  weblogicSticky,
  mistakes,
];

const page = new URL('../../docs/reference/apache-differences.md', import.meta.url);
const isUpdate = process.env.UPDATE_GOLDEN === '1';
const documented = isUpdate ? '' : readFileSync(page, 'utf8');
const reason = missing('apache');

const INTRO = `# Holdfast and Apache, case by case

What Apache 2.4 of Debian 12 and Holdfast do with the same request. Both columns were observed: \`test/full/apache.test.ts\` starts both in
front of one backend, sends each of them the same bytes, and fails when a line here is no longer so (\`UPDATE_GOLDEN=1\` writes it anew). A line
without a reason is one where both must do the same.

The tasks are those of common Apache configurations for WebSockets and sessions.
`;

/** A line of the table. */
function row({ title, why }: Case, apache: string, holdfast: string): string {
  const code = (text: string) => `\`${text.replaceAll('|', '\\|')}\``;
  return apache === holdfast
    ? `| ${title} | ${code(apache)} | the same | |`
    : `| ${title} | ${code(apache)} | ${code(holdfast)} | ${why ?? ''} |`;
}

const rows = new Map<Case, string>();

describe.skipIf(reason)(reason ?? 'Apache and Holdfast, asked the same', () => {
  describe.each(sections)('$title', section => {
    let pair: Pair;
    beforeAll(async () => {
      pair = await section.start();
    });
    afterAll(() => pair?.[Symbol.asyncDispose]());

    test.each(section.cases)('$title', async one => {
      const apache = await one.observe(pair.apache);
      const holdfast = await one.observe(pair.holdfast);
      rows.set(one, row(one, apache, holdfast));
      if (one.why === undefined) expect(holdfast).toBe(apache);
      else expect(holdfast, 'there is a reason for a difference, and none').not.toBe(apache);
      if (!isUpdate) expect(documented.split('\n')).toContain(rows.get(one));
    });
  });

  afterAll(() => {
    const parts = sections.map(({ title, intro, cases }) => {
      const lines = cases.map(one => rows.get(one) ?? '(not observed)');
      return `## ${title}\n\n${intro}\n\n| case | Apache | Holdfast | why |\n|---|---|---|---|\n${lines.join('\n')}\n`;
    });
    if (isUpdate) writeFileSync(page, [INTRO, ...parts].join('\n'));
    // What is there and is no case any more.
    else if (rows.size === sections.flatMap(({ cases }) => cases).length)
      expect(documented).toBe([INTRO, ...parts].join('\n'));
  });
});
