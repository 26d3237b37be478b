import { beforeEach, describe, expect, test } from 'vitest';
import { CalmLogger } from '../../src/base/calm-logger.ts';
import { createAddressList } from '../../src/http/address-list.ts';
import { Bans } from '../../src/policy/ban/bans.ts';
import { Jail } from '../../src/policy/ban/jail.ts';
import { type BansConfig, readBanSettings } from '../../src/policy/ban/options.ts';
import { type SecurityEvent, SecurityEvents } from '../../src/policy/security-events.ts';
import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { Lines } from '../server/wires.ts';
import { closing } from '../services/closing.ts';
import { headWith } from './head.ts';

const open = closing();
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

describe('a jail', () => {
  const settings = { failures: 5, withinMs: 10 * MINUTE, banMs: MINUTE };

  test('is due with the last of so many failures within its time, and begins anew then', () => {
    const jail = new Jail(settings);
    const due = Array.from({ length: 10 }, (_, i) => jail.note('a', i * 2 * MINUTE));
    expect(due.map(String)).toEqual([
      'false',
      'false',
      'false',
      'false',
      'true',
      'false',
      'false',
      'false',
      'false',
      'true',
    ]);
  });

  test('is not due for failures that are further apart', () => {
    const jail = new Jail(settings);
    expect(Array.from({ length: 100 }, (_, i) => jail.note('a', i * 3 * MINUTE))).not.toContain(true);
  });

  test('counts what was in the window before, as far as it is not over', () => {
    const jail = new Jail(settings);
    for (const at of [0, 9, 9.2, 9.4]) expect(jail.note('a', at * MINUTE)).toBe(false);
    expect(jail.note('a', 10.1 * MINUTE)).toBe(false);
    expect(jail.note('a', 10.2 * MINUTE)).toBe(true);
  });

  test('counts each client for itself, and forgets those that failed longest ago', () => {
    const jail = new Jail(settings);
    for (let i = 0; i < 100_000; i++) expect(jail.note(`client ${i}`, i)).toBe(false);
    expect(jail.size).toBeLessThanOrEqual(20_000);
    for (let i = 0; i < 4; i++) jail.note('client 99999', 100_000);
    expect(jail.note('client 99999', 100_000)).toBe(false); // it was due with the one before
  });
});

let clock: FakeClock;
let log: Lines;
let events: SecurityEvents;
beforeEach(() => {
  clock = new FakeClock();
  log = new Lines();
  events = new SecurityEvents(new CalmLogger(log, clock));
});

async function bansOf(config: BansConfig = { action: 'refuse' }, ledger?: MemoryLedger, own = events): Promise<Bans> {
  const trustedProxies = createAddressList(['10.0.0.0/8']);
  const bans = new Bans(readBanSettings(config), { clock, logger: log, events: own, trustedProxies, ledger });
  await bans.start();
  open.push(bans);
  return bans;
}

function report(
  address: string,
  times: number,
  event: SecurityEvent['event'] = 'login-failed',
  more: object = {},
): void {
  for (let i = 0; i < times; i++) events.report({ event, address, reason: 'x', ...more });
}

const eventsIn = (lines: Lines) =>
  lines.all.map(({ fields }) => fields.event).filter(event => event !== 'login-failed');

describe('bans', () => {
  test('begin at the threshold, and are over by themselves', async () => {
    const bans = await bansOf();
    report('192.0.2.1', 4);
    expect(bans.isBanned('192.0.2.1')).toBe(false);
    report('192.0.2.1', 1);
    expect(bans.isBanned('192.0.2.1')).toBe(true);
    expect(bans.isBanned('192.0.2.2')).toBe(false);
    expect(log.all.at(-1)).toMatchObject({
      level: 'warn',
      message: 'login: 5 within 600 s',
      fields: {
        ...{ event: 'banned', address: '192.0.2.1', client: '192.0.2.1', jail: 'login', offence: 1 },
        until: new Date(clock.now() + 10 * MINUTE).toISOString(),
      },
    });
    await clock.advance(10 * MINUTE - 1);
    expect(bans.isBanned('192.0.2.1')).toBe(true);
    await clock.advance(1);
    expect(bans.isBanned('192.0.2.1')).toBe(false);
    expect(bans.list()).toEqual([]);
  });

  test('take twice as long each time, up to the longest, and former ones are forgotten one by one', async () => {
    const bans = await bansOf({ action: 'refuse', maxTime: '1h', forgetAfter: '1d' });
    const minutes = async () => {
      report('192.0.2.1', 5);
      const [ban] = bans.list();
      const left = ban!.until - clock.now();
      await clock.advance(left);
      return left / MINUTE;
    };
    expect([await minutes(), await minutes(), await minutes(), await minutes()]).toEqual([10, 20, 40, 60]);
    await clock.advance(2 * 24 * HOUR);
    expect(await minutes()).toBe(40); // the third: of four offences two are forgotten
    await clock.advance(30 * 24 * HOUR);
    expect(await minutes()).toBe(10);
  });

  test('are of the /64 of an IPv6 address', async () => {
    const bans = await bansOf();
    for (let i = 1; i <= 5; i++) report(`2001:db8:1:2::${i}`, 1);
    expect(bans.isBanned('2001:db8:1:2:ffff::1')).toBe(true);
    expect(bans.isBanned('2001:db8:1:3::1')).toBe(false);
    expect(log.all.at(-1)!.fields).toMatchObject({ address: '2001:db8:1:2::5', client: '2001:db8:1:2::/64' });
  });

  test('never hit trusted proxies, nor what is allowed, and the machine itself only if it is not', async () => {
    const bans = await bansOf({ action: 'drop' });
    for (const address of ['10.1.2.3', '127.0.0.1', '::1', '', 'unknown']) report(address, 100);
    expect(bans.list()).toEqual([]);
    const own = await bansOf({ action: 'drop', allow: ['192.0.2.0/24'] });
    report('127.0.0.1', 5);
    report('192.0.2.1', 5);
    report('10.1.2.3', 5);
    expect(own.list().map(({ client }) => client)).toEqual(['127.0.0.1']);
  });

  test('spare an allowed address within the /64 of one that is banned', async () => {
    const bans = await bansOf({ action: 'drop', allow: ['2001:db8::7'] });
    report('2001:db8::1', 5);
    expect(bans.isBanned('2001:db8::1')).toBe(true);
    expect(bans.isBanned('2001:db8::7')).toBe(false);
  });

  test('by hand of an allowed address are refused, and not those of others in its /64', async () => {
    const bans = await bansOf({ action: 'drop', allow: ['2001:db8::7', '2001:db8:0:1::'] });
    await expect(bans.add('2001:db8::7')).rejects.toThrow('2001:db8::7 is never banned');
    await bans.add('2001:db8::8');
    await bans.add('2001:db8:0:1::9');
    expect([bans.isBanned('2001:db8::8'), bans.isBanned('2001:db8::7')]).toEqual([true, false]);
    const usual = await bansOf({ action: 'drop' });
    await expect(usual.add('::1')).rejects.toThrow('::1 is never banned');
  });

  test('are only said where the action is "log", which it is where nothing is said', async () => {
    const bans = await bansOf({});
    report('192.0.2.1', 5);
    expect(bans.isBanned('192.0.2.1')).toBe(false);
    expect(eventsIn(log)).toEqual(['ban-due']);
  });

  test('are only said of a client that sends forwarded headers and is no trusted proxy, for an hour', async () => {
    const bans = await bansOf();
    bans.judge(headWith({ headers: { 'x-forwarded-for': '203.0.113.9' }, peerAddress: '192.0.2.1' }));
    report('192.0.2.1', 5);
    expect(bans.isBanned('192.0.2.1')).toBe(false);
    expect(eventsIn(log)).toEqual(['ban-spared']);
    expect(log.all.at(-1)!.message).toMatch(/trustedProxies.*undeclaredProxies/);
    await clock.advance(HOUR);
    report('192.0.2.1', 5);
    expect(bans.isBanned('192.0.2.1')).toBe(true);
  });

  test('hit that client, too, where there are no undeclared proxies', async () => {
    const bans = await bansOf({ action: 'refuse', undeclaredProxies: 'ban' });
    bans.judge(headWith({ headers: { forwarded: 'for=203.0.113.9' }, peerAddress: '192.0.2.1' }));
    report('192.0.2.1', 5);
    expect(bans.isBanned('192.0.2.1')).toBe(true);
  });

  test.each([
    ['bad-handshake', {}, 20],
    ['bad-request', {}, 20],
    ['client-violation', {}, 20],
    ['not-found', {}, 50],
    ['refused', { status: 429 }, 100],
  ] as const)('come of %s %j, with the %i. of them', async (event, more, failures) => {
    const bans = await bansOf();
    report('192.0.2.1', failures - 1, event, more);
    expect(bans.list()).toEqual([]);
    report('192.0.2.1', 1, event, more);
    expect(bans.list()).toHaveLength(1);
  });

  test('do not come of other refusals, of a jail that is off, nor of what a page of another site has a visitor do', async () => {
    const bans = await bansOf({ action: 'refuse', jails: { login: false } });
    report('192.0.2.1', 500, 'refused', { status: 403 });
    report('192.0.2.1', 500);
    for (const event of ['not-found', 'bad-request', 'bad-handshake', 'login-failed'] as const)
      report('192.0.2.1', 500, event, { crossSite: true });
    report('192.0.2.1', 500, 'refused', { status: 429, crossSite: true });
    report('192.0.2.1', 500, 'bad-request', { status: 431 });
    expect(bans.list()).toEqual([]);
  });

  test('tell who listens whom they hit, once each', async () => {
    const bans = await bansOf();
    const told: boolean[][] = [];
    bans.onBan(hits => told.push(['192.0.2.1', '192.0.2.2', '10.0.0.1'].map(hits)));
    report('192.0.2.1', 20);
    expect(told).toEqual([[true, false, false]]);
  });
});

describe('a honeypot', () => {
  const config: BansConfig = { action: 'refuse', jails: { honeypot: { paths: ['/wp-login.php', '/.git/*'] } } };
  const ask = (bans: Bans, path: string, headers = {}) =>
    bans.judge(headWith({ path, headers, clientAddress: '192.0.2.1', peerAddress: '192.0.2.1' }));

  test.each(['/wp-login.php', '/.git', '/.git/config'])('bans who asks for %s', async path => {
    const bans = await bansOf(config);
    expect(ask(bans, '/wp-login')).toBeUndefined();
    expect(ask(bans, path)).toMatchObject({ status: 403, code: 'ERR_POLICY_BANNED' });
    expect(ask(bans, '/')).toMatchObject({ status: 403 });
    expect(bans.list()).toMatchObject([{ jail: 'honeypot', until: clock.now() + HOUR }]);
    expect(log.all[0]!.fields).toMatchObject({ event: 'honeypot', path, address: '192.0.2.1' });
  });

  test('bans no visitor whom a page of another site has made to ask', async () => {
    const bans = await bansOf(config);
    expect(ask(bans, '/.git/config', { 'sec-fetch-site': 'cross-site' })).toMatchObject({ status: 404 });
    expect(bans.list()).toEqual([]);
  });
});

describe('bans by hand', () => {
  test('are added, listed and removed', async () => {
    const bans = await bansOf();
    const ban = await bans.add('192.0.2.1', { for: '10m', reason: 'asked to' });
    await bans.add('2001:db8::1');
    expect(ban).toEqual({ client: '192.0.2.1', until: clock.now() + 10 * MINUTE, reason: 'asked to', offence: 1 });
    expect(bans.list().map(({ client }) => client)).toEqual(['192.0.2.1', '2001:db8::/64']);
    expect(bans.isBanned('192.0.2.1')).toBe(true);
    expect(await bans.remove('192.0.2.1')).toBe(true);
    expect(await bans.remove('192.0.2.1')).toBe(false);
    expect(await bans.remove('2001:db8::/64')).toBe(true);
    expect(bans.list()).toEqual([]);
    expect(eventsIn(log)).toEqual(['banned', 'banned', 'ban-lifted', 'ban-lifted']);
  });

  test('are pushed out by none of a jail, however many it makes, and are at most 50,000', async () => {
    const bans = await bansOf({ action: 'refuse', jails: { honeypot: { paths: ['/trap'] } } });
    await bans.add('192.0.2.1', { for: '2d' });
    for (let i = 0; i < 51_000; i++)
      report(`2001:db8:${(i >> 8).toString(16)}:${(i & 255).toString(16)}::1`, 1, 'honeypot');
    expect(bans.isBanned('192.0.2.1')).toBe(true);
    expect(bans.list().length).toBeLessThanOrEqual(50_001);
    for (let i = 1; i < 50_000; i++) await bans.add(`198.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
    await expect(bans.add('192.0.2.2')).rejects.toThrow(/50000 bans.*policy\.addresses\.deny/);
    await bans.add('192.0.2.1', { for: '3d' }); // it has a place
    expect(bans.isBanned('192.0.2.1')).toBe(true);
    await clock.advance(HOUR);
    await bans.add('192.0.2.2');
    expect(bans.isBanned('192.0.2.2')).toBe(true);
  });

  test('hold also where jails only log', async () => {
    const bans = await bansOf({});
    await bans.add('192.0.2.1');
    expect(bans.judge(headWith({ clientAddress: '192.0.2.1' }))).toMatchObject({ status: 403 });
  });

  test.each([
    ['192.0.2.0/24', {}, /policy\.addresses\.deny/],
    ['example.com', {}, /not a client/],
    ['10.0.0.1', {}, /never banned/],
    ['192.0.2.1', { for: '31d' }, /at most 30d/],
    ['192.0.2.1', { for: 0 }, /more than 0/],
    ['192.0.2.1', { for: Symbol('1h') as never }, /"for" is a number or a string, not a symbol/],
    ['192.0.2.1', { reason: 10n as never }, /"reason" is a string, not a bigint/],
    ['192.0.2.1', { reason: () => {} } as never, /"reason" is a string, not a function/],
    ['192.0.2.1', { until: '1h' } as never, /unknown option "until"/],
    ['192.0.2.1', null as never, /options are an object, not null/],
  ])('of %s with %o are refused', async (address, options, message) => {
    const bans = await bansOf();
    await expect(bans.add(address, options)).rejects.toThrow(message);
    expect(bans.list()).toEqual([]);
  });
});

describe('processes that share a ledger', () => {
  test('share bans, and their ends', async () => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const first = await bansOf({ action: 'refuse' }, ledger);
    const quiet = new SecurityEvents(new CalmLogger(log, clock));
    const second = await bansOf({ action: 'refuse' }, ledger, quiet);
    const told: boolean[] = [];
    second.onBan(hits => told.push(hits('192.0.2.1')));
    report('192.0.2.1', 5);
    await expect.poll(() => second.isBanned('192.0.2.1')).toBe(true);
    expect(told).toEqual([true]);
    expect(eventsIn(log)).toEqual(['banned']);
    await second.remove('192.0.2.1');
    await expect.poll(() => first.isBanned('192.0.2.1')).toBe(false);
    // One that starts later has it no more.
    expect((await bansOf({}, ledger, quiet)).list()).toEqual([]);
  });

  test('know nothing more of a client that was let in again, however often it was banned, and by whom', async () => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const quiet = new SecurityEvents(new CalmLogger(log, clock));
    const first = await bansOf({ action: 'refuse' }, ledger, quiet);
    const second = await bansOf({ action: 'refuse' }, ledger, quiet);
    await Promise.all([first.add('192.0.2.1', { for: '1d' }), second.add('192.0.2.1', { for: '1d' })]);
    await new Promise(setImmediate); // each has heard of the other's
    await first.add('192.0.2.1', { for: '1h' });
    await new Promise(setImmediate);
    await first.remove('192.0.2.1');
    await expect.poll(() => second.isBanned('192.0.2.1')).toBe(false);
    await clock.advance(30_000); // both have looked for what is new
    expect([...first.list(), ...second.list()]).toEqual([]);
    expect((await bansOf({}, ledger, quiet)).list()).toEqual([]);
  });

  test('have the bans of those that have ended, with their offences', async () => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const first = await bansOf({ action: 'refuse' }, ledger);
    report('192.0.2.1', 5);
    await clock.advance(10 * MINUTE);
    report('192.0.2.1', 5);
    await first.add('192.0.2.2');
    await first.close();
    const second = await bansOf({ action: 'refuse' }, ledger);
    expect(second.list()).toMatchObject([{ client: '192.0.2.1', offence: 2 }, { client: '192.0.2.2' }]);
    await clock.advance(20 * MINUTE);
    expect(second.isBanned('192.0.2.1')).toBe(false);
    report('192.0.2.1', 5);
    expect(second.list()).toMatchObject([{ client: '192.0.2.2' }, { client: '192.0.2.1', offence: 3 }]);
  });

  test('learn within half a minute of a ban whose event was lost', async () => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const first = await bansOf({ action: 'refuse' }, ledger);
    const quiet = new SecurityEvents(new CalmLogger(log, clock));
    const second = await bansOf({ action: 'refuse' }, ledger, quiet);
    ledger.publish = async () => {};
    await first.add('192.0.2.1');
    expect(second.isBanned('192.0.2.1')).toBe(false);
    await clock.advance(30_000);
    await expect.poll(() => second.isBanned('192.0.2.1')).toBe(true);
  });

  test('learn within half a minute of a ban that was lifted when its event was lost', async () => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const quiet = new SecurityEvents(new CalmLogger(log, clock));
    const first = await bansOf({ action: 'refuse' }, ledger, quiet);
    const second = await bansOf({ action: 'refuse' }, ledger, quiet);
    const third = await bansOf({ action: 'refuse' }, ledger, quiet);
    await first.add('192.0.2.1', { for: '30d' });
    await first.add('192.0.2.2', { for: '30d' });
    await expect.poll(() => second.list().length).toBe(2);
    const { publish } = ledger;
    ledger.publish = async () => {};
    await first.remove('192.0.2.1');
    await first.remove('192.0.2.2');
    // Who is banned again stays so.
    ledger.publish = publish;
    await third.add('192.0.2.2', { for: '30d' });
    expect(second.isBanned('192.0.2.1')).toBe(true);
    await clock.advance(30_000);
    await expect.poll(() => second.isBanned('192.0.2.1')).toBe(false);
    await clock.advance(30_000);
    for (const bans of [first, second, third, await bansOf({ action: 'refuse' }, ledger, quiet)])
      expect(bans.list().map(({ client }) => client)).toEqual(['192.0.2.2']);
  });

  test('do not take a lifted ban that they have heard of for one that comes after', async () => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const quiet = new SecurityEvents(new CalmLogger(log, clock));
    const first = await bansOf({ action: 'refuse' }, ledger, quiet);
    const second = await bansOf({ action: 'refuse' }, ledger, quiet);
    await first.add('192.0.2.1');
    await first.remove('192.0.2.1');
    await new Promise(setImmediate); // the other has heard of both
    const { increment } = ledger;
    ledger.increment = () => Promise.reject(new Error('gone'));
    await expect(first.add('192.0.2.1')).rejects.toThrow('gone');
    await expect(second.add('192.0.2.1')).rejects.toThrow('gone');
    ledger.increment = increment;
    await clock.advance(30_000);
    await new Promise(setImmediate);
    expect([first, second].map(bans => bans.isBanned('192.0.2.1'))).toEqual([true, true]);
  });

  test.each(['before', 'after'])('keep nothing of a ban that is lifted by another %s it is kept', async order => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const first = await bansOf({ action: 'refuse' }, ledger);
    const second = await bansOf({ action: 'refuse' }, ledger, new SecurityEvents(new CalmLogger(log, clock)));
    const { put, get } = ledger;
    const kept = Promise.withResolvers<void>();
    ledger.put = async (...given) => {
      if (order === 'before' && given[0] === 'ban 1') await kept.promise;
      await put.apply(ledger, given);
    };
    // The place is looked at before, and what is there comes after.
    let looks = 0;
    if (order === 'after') ledger.get = async key => (looks++ === 0 ? undefined : get.call(ledger, key));
    report('192.0.2.1', 5);
    await expect.poll(() => second.isBanned('192.0.2.1')).toBe(true);
    await second.remove('192.0.2.1');
    await expect.poll(() => first.isBanned('192.0.2.1')).toBe(false);
    kept.resolve();
    await expect.poll(() => get.call(ledger, 'ban 1')).toBe(undefined);
    await expect.poll(async () => (await bansOf({ action: 'refuse' }, ledger)).list()).toEqual([]);
  });

  test('keep a ban that was made by hand, however many jails make', async () => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const first = await bansOf({ action: 'refuse', jails: { honeypot: { paths: ['/trap'] } } }, ledger);
    await first.add('192.0.2.1', { for: '2d' });
    for (let i = 0; i < 4_200; i++) report(`198.18.${i >> 8}.${i & 255}`, 1, 'honeypot');
    await expect.poll(() => ledger.get('bans')).toBe('4200');
    const second = await bansOf({ action: 'refuse' }, ledger);
    expect(second.isBanned('192.0.2.1')).toBe(true);
    expect(second.isBanned('198.18.16.103')).toBe(true); // the last
    await second.remove('192.0.2.1');
    expect((await bansOf({ action: 'refuse' }, ledger)).isBanned('192.0.2.1')).toBe(false);
    await expect.poll(() => first.isBanned('192.0.2.1')).toBe(false);
  });

  test('keep the latest 4,096 of more bans', async () => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const first = await bansOf({ action: 'refuse' }, ledger);
    for (let i = 0; i < 5_000; i++) await first.add(`198.${18 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`);
    expect(first.list()).toHaveLength(5_000);
    const second = await bansOf({ action: 'refuse' }, ledger);
    expect(second.list()).toHaveLength(4_096);
    expect(second.isBanned('198.18.19.135')).toBe(true); // the last
  });

  test('go on banning in one process when the ledger fails, say so, and tell the others when it is back', async () => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const bans = await bansOf({ action: 'refuse' }, ledger);
    const other = await bansOf({ action: 'refuse' }, ledger, new SecurityEvents(new CalmLogger(log, clock)));
    const { increment } = ledger;
    ledger.increment = () => Promise.reject(new Error('gone'));
    report('192.0.2.1', 5);
    report('192.0.2.2', 5);
    expect(bans.isBanned('192.0.2.1')).toBe(true);
    await expect.poll(() => log.of('warn')).toContain('a ban could not be told to other processes; trying again');
    await bans.remove('192.0.2.2').catch(() => {});
    await clock.advance(60_000);
    expect(other.isBanned('192.0.2.1')).toBe(false);
    ledger.increment = increment;
    await clock.advance(30_000);
    await expect.poll(() => other.isBanned('192.0.2.1')).toBe(true);
    expect(other.isBanned('192.0.2.2')).toBe(false);
  });

  test('tell others late of none but the ban that holds', async () => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const bans = await bansOf({ action: 'refuse' }, ledger);
    const other = await bansOf({ action: 'refuse' }, ledger, new SecurityEvents(new CalmLogger(log, clock)));
    const { increment } = ledger;
    const gone = Promise.withResolvers<never>();
    ledger.increment = () => gone.promise;
    report('192.0.2.1', 5);
    report('192.0.2.2', 5);
    const removing = bans.remove('192.0.2.2').catch(() => {});
    gone.reject(new Error('gone'));
    await removing;
    await expect.poll(() => log.of('warn').length).toBeGreaterThan(0);
    ledger.increment = increment;
    const byHand = await bans.add('192.0.2.1', { for: '2d' });
    await clock.advance(30_000);
    await expect.poll(() => other.list()).toEqual([byHand]);
    expect(bans.list()).toEqual([byHand]);
  });

  test('let in whoever is let in by one while another tells of the ban', async () => {
    const ledger = new MemoryLedger({ clock });
    open.push(ledger);
    const first = await bansOf({ action: 'refuse' }, ledger);
    const second = await bansOf({ action: 'refuse' }, ledger, new SecurityEvents(new CalmLogger(log, clock)));
    const { increment } = ledger;
    const told = Promise.withResolvers<void>();
    ledger.increment = async (...given) => {
      const place = await increment.apply(ledger, given);
      if (given[0] === 'bans' && given[1] > 0) await told.promise;
      return place;
    };
    report('192.0.2.1', 5);
    await second.remove('192.0.2.1');
    await expect.poll(() => first.isBanned('192.0.2.1')).toBe(false);
    told.resolve();
    await clock.advance(30_000);
    expect(second.isBanned('192.0.2.1')).toBe(false);
    expect(first.isBanned('192.0.2.1')).toBe(false);
  });
});
