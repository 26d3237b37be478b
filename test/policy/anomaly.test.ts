import { beforeEach, describe, expect, test } from 'vitest';
import { CalmLogger } from '../../src/base/calm-logger.ts';
import { Anomalies, networkOf } from '../../src/policy/anomaly.ts';
import { type AnomaliesConfig, readAnomalySettings } from '../../src/policy/anomaly-options.ts';
import { SecurityEvents } from '../../src/policy/security-events.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { Lines } from '../server/wires.ts';

let clock: FakeClock;
let log: Lines;
let events: SecurityEvents;
let punished: string[];
beforeEach(() => {
  clock = new FakeClock();
  log = new Lines();
  events = new SecurityEvents(new CalmLogger(log, clock));
  punished = [];
});

function anomalies(config: AnomaliesConfig = {}): Anomalies {
  const bans = { punish: (address: string) => void punished.push(address) };
  return new Anomalies(readAnomalySettings(config)!, { clock, events, bans });
}

function use(one: Anomalies, address: string, agent = 'browser', sid = 'a', sockets: string[] = []) {
  const head = { clientAddress: address, headers: { 'user-agent': agent } };
  return one.judge(head, { sid, owner: 'alice', socketAddresses: () => sockets });
}
const names = () => log.all.map(({ fields }) => fields.event);

test.each([
  ['192.0.2.77', '192.0.2.0/24'],
  ['::ffff:192.0.2.77', '192.0.2.0/24'],
  ['2001:db8:1:2::3', '2001:db8:1::/48'],
  ['unknown', undefined],
])('the network of %s is %s', (address, network) => expect(networkOf(address)).toBe(network));

describe('a session', () => {
  test('that is used from a new network is said once, and not for one of its last four', async () => {
    const one = anomalies();
    for (const net of [1, 1, 2, 3, 4, 1, 2, 3, 4]) {
      expect(use(one, `198.51.${net}.7`)).toBe('allow');
      await clock.advance(60_000);
    }
    expect(names()).toEqual(['session-new-network', 'session-new-network', 'session-new-network']);
    expect(log.all[0]).toMatchObject({
      level: 'info',
      fields: { address: '198.51.2.7', sid: 'a', user: 'alice', action: 'log' },
    });
    use(one, '198.51.5.7');
    await clock.advance(60_000);
    use(one, '198.51.1.7'); // it was pushed out
    expect(names()).toHaveLength(5);
  });

  test('that is used from two networks within a minute is in two places, and after a minute it is not', async () => {
    const one = anomalies({ network: 'off' });
    use(one, '192.0.2.1');
    use(one, '192.0.2.200'); // the same network
    await clock.advance(59_999);
    use(one, '198.51.100.1');
    expect(names()).toEqual(['session-two-places']);
    await clock.advance(60_000);
    use(one, '192.0.2.1');
    expect(names()).toHaveLength(1);
  });

  test('whose socket is open from another network is in two places, however long that is silent', async () => {
    const one = anomalies({ network: 'off' });
    use(one, '192.0.2.1');
    await clock.advance(3_600_000);
    use(one, '198.51.100.1', 'browser', 'a', ['192.0.2.1']);
    expect(names()).toEqual(['session-two-places']);
  });

  test('that was refused to a new network is refused to it again, and goes on in its own', () => {
    const one = anomalies({ network: 'challenge', places: 'off' });
    const nets = ['192.0.2.1', '192.0.2.1', '198.51.100.1', '198.51.100.1', '', '192.0.2.1', '198.51.100.1'];
    expect(nets.map(address => use(one, address))).toEqual([
      ...['allow', 'allow', 'challenge', 'challenge', 'allow', 'allow', 'challenge'],
    ]);
  });

  test('that is used by another agent is said once', () => {
    const one = anomalies();
    for (const agent of ['browser', 'curl', 'curl', 'browser']) use(one, '192.0.2.1', agent);
    expect(names()).toEqual(['session-new-agent']);
  });

  test('that is used too often is said once in each window', async () => {
    const one = anomalies({ rate: { requests: 10, within: '1s' } });
    for (let i = 0; i < 30; i++) use(one, '192.0.2.1');
    await clock.advance(1_000);
    for (let i = 0; i < 9; i++) use(one, '192.0.2.1');
    expect(names()).toEqual(['session-rate']);
    use(one, '192.0.2.1');
    expect(names()).toHaveLength(2);
  });

  test('is no news to itself: another one begins anew', () => {
    const one = anomalies();
    use(one, '192.0.2.1', 'browser', 'a');
    use(one, '198.51.100.1', 'curl', 'b');
    expect(names()).toEqual([]);
  });
});

describe('what is done', () => {
  test('is the strongest of what holds, and a challenge holds until the client signs in', () => {
    const one = anomalies({ network: 'log', agent: 'challenge' });
    use(one, '192.0.2.1');
    for (let i = 0; i < 3; i++) expect(use(one, '198.51.100.1', 'curl')).toBe('challenge');
    expect(use(one, '192.0.2.1')).toBe('allow');
  });

  test('to the session is its end, and to a client a ban', () => {
    const one = anomalies({ places: 'end', agent: 'ban' });
    use(one, '192.0.2.1');
    expect(use(one, '198.51.100.1')).toBe('end');
    expect(punished).toEqual([]);
    use(one, '192.0.2.1', 'browser', 'b');
    expect(use(one, '192.0.2.1', 'curl', 'b')).toBe('ban');
    expect(punished).toEqual(['192.0.2.1']);
  });

  test('about a dead secret is a ban where it is asked for', () => {
    const dead = { event: 'dead-secret', address: '192.0.2.9', reason: 'x' } as const;
    anomalies().close();
    const one = anomalies({ secret: 'ban' });
    events.report(dead);
    expect(punished).toEqual(['192.0.2.9']);
    one.close();
    events.report(dead);
    expect(punished).toHaveLength(1);
  });

  test('is nothing where it is off', () => {
    const one = anomalies({ network: 'off', agent: 'off', places: 'off', rate: 'off' });
    use(one, '192.0.2.1');
    for (let i = 0; i < 2_000; i++) expect(use(one, '198.51.100.1', 'curl')).toBe('allow');
    expect(names()).toEqual([]);
    expect(readAnomalySettings(false)).toBeUndefined();
  });
});

test('sessions that were used longest ago are forgotten first', () => {
  const one = anomalies();
  for (let i = 0; i < 60_000; i++) use(one, '192.0.2.1', 'browser', `${i}`);
  expect(one.size).toBeLessThanOrEqual(50_000);
  use(one, '198.51.100.1', 'browser', '59999');
  expect(names()).toContain('session-new-network');
});
