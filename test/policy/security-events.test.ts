import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import { CalmLogger } from '../../src/base/calm-logger.ts';
import { SECURITY_EVENTS } from '../../src/base/security-events.ts';
import { SecurityEvents } from '../../src/policy/security-events.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { Lines } from '../server/wires.ts';

let log: Lines;
let events: SecurityEvents;
let heard: object[];
beforeEach(() => {
  log = new Lines();
  events = new SecurityEvents(new CalmLogger(log, new FakeClock()));
  heard = [];
});

const failed = { event: 'login-failed', address: '192.0.2.1', reason: 'the password is not right' } as const;

describe('a security event that is reported', () => {
  test('has a line with the level of its event, its fields and its reason', () => {
    events.report({ ...failed, user: 'alice', scheme: 'staff' });
    expect(log.all).toEqual([
      {
        level: 'warn',
        message: 'the password is not right',
        fields: { event: 'login-failed', address: '192.0.2.1', user: 'alice', scheme: 'staff' },
      },
    ]);
  });

  test('has no whole session id, no text without end, and no address where that is not known', () => {
    events.report({ ...failed, address: '', sid: '0123456789abcdef', user: 'x'.repeat(10_000) });
    expect(log.all[0]!.fields).toEqual({ event: 'login-failed', sid: '01234567', user: 'x'.repeat(256) });
  });

  test('is heard also when it has no line of its own any more', () => {
    const stop = events.listen(fields => heard.push(fields));
    for (let i = 0; i < 100; i++) events.report(failed);
    expect(log.all).toHaveLength(20);
    expect(heard).toHaveLength(100);
    expect(heard[99]).toMatchObject({ event: 'login-failed', address: '192.0.2.1' });
    stop();
    events.report(failed);
    expect(heard).toHaveLength(100);
  });
});

test('security events that other parts write to the log are heard, and other lines are not', () => {
  const calm = new CalmLogger(log, new FakeClock());
  new SecurityEvents(calm).listen(fields => heard.push(fields));
  calm.warn({ event: 'dead-secret', sid: '01234567', address: '192.0.2.1' }, 'a dead secret');
  calm.info({ event: 'refused', status: 403, address: '192.0.2.1' }, 'not allowed');
  calm.info({ event: 'refused', status: 502 }, 'no backend');
  calm.error({ event: 'thread-ended' }, 'ended');
  expect(heard).toMatchObject([{ event: 'dead-secret' }, { event: 'refused', status: 403 }]);
});

test('a listener that throws takes no line away, and disturbs no other', () => {
  events.listen(() => {
    throw new Error('a listener');
  });
  events.listen(fields => heard.push(fields));
  events.report(failed);
  expect(log.all).toHaveLength(1);
  expect(heard).toHaveLength(1);
});

test('where a level is off, its events are heard all the same', () => {
  const off = Object.assign(new Lines(), { isLevelEnabled: () => false });
  const quiet = new SecurityEvents(new CalmLogger(off, new FakeClock()));
  quiet.listen(fields => heard.push(fields));
  quiet.report(failed);
  expect(off.all).toEqual([]);
  expect(heard).toHaveLength(1);
});

test('a flood of one event leaves the lines of another', () => {
  for (let i = 0; i < 10_000; i++)
    events.report({ ...failed, event: 'not-found', address: `10.0.${i >> 8}.${i & 255}` });
  events.report({ ...failed, address: '192.0.2.77' });
  expect(log.all.filter(({ fields }) => fields.event === 'not-found')).toHaveLength(1_000);
  expect(log.all.at(-1)!.fields).toMatchObject({ event: 'login-failed', address: '192.0.2.77' });
});

test('docs/reference/security-log.md has every event with its level and meaning, in this order', () => {
  const page = readFileSync(new URL('../../docs/reference/security-log.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `([a-z-]+)` \| `(\w+)` \| (.*) \|$/gm)].map(row => row.slice(1));
  const table = Object.entries(SECURITY_EVENTS).map(([name, { level, what }]) => [name, level, what]);
  expect(rows).toEqual(table);
  for (const [name] of table) expect(name).toMatch(/^[a-z]+(-[a-z]+)*$/);
});
