import { describe, expect, test } from 'vitest';
import { silentLogger } from '../../../src/base/logger.ts';
import { parseRate } from '../../../src/base/rate.ts';
import { createAddressList } from '../../../src/http/address-list.ts';
import { isRefusal } from '../../../src/http/refusal.ts';
import { Limits, type LimitsOptions, type PerAddress } from '../../../src/policy/limits/limits.ts';
import { Seat } from '../../../src/policy/limits/seat.ts';
import { SharedLimits } from '../../../src/policy/limits/shared-limits.ts';
import { MemoryLedger } from '../../../src/session/ledgers/memory.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { Lines } from '../../server/wires.ts';

/** What is told within a process arrives in some turns. */
async function settled(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise(resolve => setImmediate(resolve));
}

const clock = () => new FakeClock();
function limits(options: Partial<LimitsOptions>, on = clock(), logger = silentLogger): Limits {
  const trustedProxies = createAddressList(['2001:db8:ffff::/48']);
  return new Limits({ name: 'the server', frames: [], ...options }, { clock: on, logger, trustedProxies });
}
const from = (clientAddress: string, isUpgrade = false) => ({ clientAddress, isUpgrade });
const statuses = (one: Limits, addresses: string[], isUpgrade = false) =>
  addresses.map(address => one.takeRequest(from(address, isUpgrade))?.status ?? 'in');

describe('the address of a client', () => {
  const rate = { requestsPerAddress: parseRate('1/m') };

  test('is the /64 of IPv6, and IPv4 as a whole', () => {
    expect(statuses(limits(rate), ['2001:db8::1', '2001:db8::2', '2001:db8:0:1::1'])).toEqual(['in', 429, 'in']);
    expect(statuses(limits(rate), ['192.0.2.1', '192.0.2.2', '192.0.2.1'])).toEqual(['in', 'in', 429]);
  });

  test('is not limited where there is none', () => {
    expect(statuses(limits(rate), ['', '', 'unknown', 'unknown'])).toEqual(['in', 'in', 'in', 'in']);
  });

  test("is not limited where a trusted proxy does not name its client, whose address is the proxy's then", () => {
    expect(statuses(limits(rate), ['2001:db8:ffff::7', '2001:db8:ffff::7'])).toEqual(['in', 'in']);
    const seats = limits({ connectionsPerAddress: 1 });
    for (let i = 0; i < 2; i++) expect(isRefusal(Seat.take([seats], { address: '2001:db8:ffff::7' }))).toBe(false);
  });

  test.each([
    '127.0.0.1',
    '::1',
    '10.1.2.3',
    '172.31.0.1',
    '192.168.1.1',
    '169.254.1.1',
    '100.64.0.1',
    'fd00::1',
    'fe80::1',
  ])('of a private network (%s) is limited by what was asked for, and not by a default', address => {
    expect(statuses(limits(rate), [address, address])).toEqual(['in', 429]);
    const defaults: ReadonlySet<PerAddress> = new Set(['requestsPerAddress']);
    expect(statuses(limits({ ...rate, defaults }), [address, address])).toEqual(['in', 'in']);
    expect(statuses(limits({ ...rate, defaults }), ['172.32.0.1', '172.32.0.1'])).toEqual(['in', 429]);
  });
});

describe('a rate', () => {
  test('is answered with 429, when to come again, and what the rate is', () => {
    const one = limits({ requestsPerAddress: parseRate('2/10s') });
    expect(statuses(one, ['192.0.2.1', '192.0.2.1'])).toEqual(['in', 'in']);
    expect(one.takeRequest(from('192.0.2.1'))).toMatchObject({
      status: 429,
      code: 'ERR_POLICY_RATE',
      closeCode: 1008,
      headers: {
        'Retry-After': '5',
        'RateLimit-Policy': '"requestsPerAddress";q=2;w=10',
        RateLimit: '"requestsPerAddress";r=0;t=5',
      },
    });
  });

  test('of all clients is a 503', () => {
    const one = limits({ requests: parseRate('1/m') });
    expect(statuses(one, ['192.0.2.1', '192.0.2.2'])).toEqual(['in', 503]);
  });

  test('of one client uses up nothing of all clients when it is exceeded', () => {
    const one = limits({ requests: parseRate('3/m'), requestsPerAddress: parseRate('1/m') });
    expect(statuses(one, ['192.0.2.1', '192.0.2.1', '192.0.2.1', '192.0.2.1'])).toEqual(['in', 429, 429, 429]);
    expect(statuses(one, ['192.0.2.2', '192.0.2.3'])).toEqual(['in', 'in']);
  });

  test('of handshakes does not concern other requests', () => {
    const one = limits({ handshakesPerAddress: parseRate('1/m'), handshakes: parseRate('2/m') });
    expect(statuses(one, ['192.0.2.1', '192.0.2.1'])).toEqual(['in', 'in']);
    expect(statuses(one, ['192.0.2.1', '192.0.2.1', '192.0.2.2', '192.0.2.3'], true)).toEqual(['in', 429, 'in', 503]);
  });

  test('of new sessions says in the log that it may be a proxy', () => {
    const logger = new Lines();
    const one = limits({ newSessionsPerAddress: parseRate('1/m') }, clock(), logger);
    expect([1, 2].map(() => one.takeNewSession('192.0.2.1')?.status)).toEqual([undefined, 429]);
    expect(logger.all).toMatchObject([
      { level: 'warn', fields: { event: 'new-sessions-limited', address: '192.0.2.1' } },
    ]);
  });
});

describe('a place', () => {
  const occupant = (session: string, user: string, address = '192.0.2.1') => ({ address, session, user });
  const take = (one: Limits, ...who: Parameters<typeof occupant>) => {
    const place = Seat.take([one], occupant(...who));
    return isRefusal(place) ? `${place.status} ${place.reason}` : place;
  };

  test.each([
    ['connections', '503 connections of the server: 2 are open', ['s3', 'u3', '192.0.2.3']],
    ['connectionsPerAddress', '429 connectionsPerAddress of the server: 2 are open', ['s3', 'u3', '192.0.2.1']],
    ['connectionsPerSession', '429 connectionsPerSession of the server: 2 are open', ['s1', 'u3', '192.0.2.3']],
    ['connectionsPerUser', '429 connectionsPerUser of the server: 2 are open', ['s3', 'u1', '192.0.2.3']],
  ] as const)('%s: there are so many, and one that is left is free', (name, refusal, [session, user, address]) => {
    const one = limits({ [name]: 2 });
    const [first] = [take(one, 's1', 'u1'), take(one, 's1', 'u1')] as Seat[];
    expect(take(one, session, user, address)).toBe(refusal);
    first!.leave();
    first!.leave();
    expect(take(one, session, user, address)).toBeInstanceOf(Seat);
    expect(take(one, session, user, address)).toBe(refusal);
  });

  test('is taken of all limits or of none', () => {
    const [server, route] = [limits({ connections: 5 }), limits({ name: 'a route', connections: 1 })];
    for (let i = 0; i < 3; i++) Seat.take([server, route], occupant('s', 'u'));
    expect([server.counts.get('connections')!.counts.get(''), route.counts.get('connections')!.counts.get('')]).toEqual(
      [1, 1],
    );
  });

  test('nothing is kept of who has left', () => {
    const one = limits({ connectionsPerAddress: 10 });
    for (let i = 0; i < 1000; i++) (take(one, 's', 'u', `192.0.${i >> 8}.${i & 255}`) as Seat).leave();
    expect(one.counts.get('connectionsPerAddress')!.counts.size).toBe(0);
  });
});

describe('shared by processes', () => {
  async function processes(options: Partial<LimitsOptions>, logger = silentLogger) {
    const on = clock();
    const ledger = new MemoryLedger({ clock: on });
    const make = async () => {
      const one = limits({ ...options, isShared: true }, on, logger);
      return { one, shared: await SharedLimits.start([one], { ledger, clock: on, logger }) };
    };
    return { on, ledger, make, a: await make(), b: await make() };
  }

  test('a rate is that of all, and nothing is told more often than each 200 ms', async () => {
    const { on, ledger, a, b } = await processes({ requestsPerAddress: parseRate('10/10s') });
    let told = 0;
    const publish = ledger.publish.bind(ledger);
    ledger.publish = (...call) => {
      told++;
      return publish(...call);
    };
    let taken = 0;
    for (let now = 0; now < 60_000; now += 50) {
      for (const { one } of [a, b]) if (!one.takeRequest(from('192.0.2.1'))) taken++;
      await on.advance(50);
      await settled();
    }
    // 10 at once and 60 in time, and what both let in before they knew of each other.
    expect(taken).toBeGreaterThanOrEqual(66);
    expect(taken).toBeLessThanOrEqual(80);
    expect(told).toBeLessThanOrEqual(2 * (60_000 / 200 + 10));
  });

  test('what is opened for a configuration that is refused changes nothing', async () => {
    const { on, ledger, a, b } = await processes({ requests: parseRate('3/h') });
    const refused = await SharedLimits.open([a.one], { ledger, clock: on, logger: silentLogger });
    await refused.close();
    for (let i = 0; i < 2; i++) a.one.takeRequest(from('192.0.2.1'));
    await on.advance(1_000);
    await settled();
    expect(statuses(b.one, ['192.0.2.1', '192.0.2.1'])).toEqual(['in', 503]);
  });

  test('what takes its place counts what others tell once', async () => {
    const { on, ledger, a, b } = await processes({ requests: parseRate('5/h') });
    const next = await SharedLimits.open([a.one], { ledger, clock: on, logger: silentLogger });
    b.one.takeRequest(from('192.0.2.1'));
    await on.advance(1_000);
    await settled();
    next.hold();
    await a.shared.close();
    b.one.takeRequest(from('192.0.2.1'));
    await on.advance(1_000);
    await settled();
    expect(statuses(a.one, Array(4).fill('192.0.2.1'))).toEqual(['in', 'in', 'in', 503]);
  });

  test('a thousand clients are told in ten messages', async () => {
    const { on, ledger, a, b } = await processes({ requestsPerAddress: parseRate('1/m') });
    const sizes: number[] = [];
    const publish = ledger.publish.bind(ledger);
    ledger.publish = (channel, message) => {
      if (message.includes('taken')) sizes.push(message.length);
      return publish(channel, message);
    };
    const addresses = Array.from({ length: 1000 }, (_, i) => `198.51.${100 + (i >> 8)}.${i & 255}`);
    expect(new Set(statuses(a.one, addresses))).toEqual(new Set(['in']));
    await on.advance(250);
    await settled();
    expect(sizes).toHaveLength(10);
    expect(Math.max(...sizes)).toBeLessThan(8_000);
    expect(new Set(statuses(b.one, addresses))).toEqual(new Set([429]));
  });

  test('a process that starts later is told what has been taken', async () => {
    const options = { requestsPerAddress: parseRate('3/h'), handshakes: parseRate('2/h') };
    const { on, make, a } = await processes(options);
    statuses(a.one, ['192.0.2.1', '192.0.2.1', '192.0.2.1', '192.0.2.2']);
    statuses(a.one, ['192.0.2.7'], true);
    await on.advance(250);
    const c = await make();
    await settled();
    expect(statuses(c.one, ['192.0.2.1', '192.0.2.2', '192.0.2.2', '192.0.2.2', '192.0.2.3'])).toEqual([
      ...[429, 'in', 'in', 429, 'in'],
    ]);
    expect(statuses(c.one, ['192.0.2.8', '192.0.2.9'], true)).toEqual(['in', 503]);
  });

  test('connections are those of all, also for a process that starts later', async () => {
    const { on, make, a, b } = await processes({ connectionsPerAddress: 2 });
    const enter = ({ one }: typeof a) => Seat.take([one], { address: '192.0.2.1' });
    const first = enter(a) as Seat;
    enter(b);
    await on.advance(250);
    await settled();
    expect([enter(a), enter(b)].map(isRefusal)).toEqual([true, true]);
    const c = await make();
    await on.advance(250);
    await settled();
    expect(isRefusal(enter(c))).toBe(true);
    first.leave();
    await on.advance(250);
    await settled();
    expect(isRefusal(enter(c))).toBe(false);
  });

  test('connections of a process that has stopped, or is not heard any more, are none', async () => {
    const { on, a, b, make, ledger } = await processes({ connectionsPerAddress: 2 });
    const enter = ({ one }: typeof a) => Seat.take([one], { address: '192.0.2.1' });
    enter(b);
    enter(b);
    await on.advance(250);
    await settled();
    expect(isRefusal(enter(a))).toBe(true);
    await b.shared.close();
    await settled();
    const left = enter(a) as Seat;
    expect(isRefusal(left)).toBe(false);
    left.leave();
    // One that is lost without a word.
    const publish = ledger.publish.bind(ledger);
    let lost: string | undefined;
    let isSilent = false;
    ledger.publish = async (channel, message) => {
      const { from: sender } = JSON.parse(message) as { from: string };
      lost ??= sender;
      if (!isSilent || sender !== lost) await publish(channel, message);
    };
    const c = await make();
    enter(c);
    enter(c);
    await on.advance(250);
    await settled();
    expect(isRefusal(enter(a))).toBe(true);
    isSilent = true;
    await on.advance(36_000);
    await settled();
    expect(isRefusal(enter(a))).toBe(false);
  });

  test('what was lost on the way is made good', async () => {
    const { on, a, b, ledger } = await processes({ connectionsPerAddress: 1 });
    const enter = ({ one }: typeof a) => Seat.take([one], { address: '192.0.2.1' });
    const publish = ledger.publish.bind(ledger);
    ledger.publish = async () => {};
    const place = enter(b) as Seat;
    await on.advance(250);
    ledger.publish = publish;
    await on.advance(10_000);
    await settled();
    expect(isRefusal(enter(a))).toBe(true);
    ledger.publish = async () => {};
    place.leave();
    await on.advance(250);
    ledger.publish = publish;
    await on.advance(10_000);
    await settled();
    expect(isRefusal(enter(a))).toBe(false);
  });

  test('while the ledger cannot be reached each process goes by itself, and the log says so', async () => {
    const logger = new Lines();
    const { on, a, b, ledger } = await processes({ requestsPerAddress: parseRate('1/m') }, logger);
    const publish = ledger.publish.bind(ledger);
    ledger.publish = async () => {
      throw new Error('the ledger is away');
    };
    expect([...statuses(a.one, ['192.0.2.1', '192.0.2.1']), ...statuses(b.one, ['192.0.2.1'])]).toEqual([
      'in',
      429,
      'in',
    ]);
    await on.advance(250);
    await settled();
    expect(logger.all[0]).toMatchObject({ level: 'warn', fields: { event: 'limits-not-shared' } });
    ledger.publish = publish;
    statuses(a.one, ['192.0.2.9']);
    await on.advance(250);
    await settled();
    expect(statuses(b.one, ['192.0.2.9'])).toEqual([429]);
  });
});
