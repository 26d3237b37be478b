import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Attack, type AttackName, type Tally } from './attack.ts';
import { CalmClients, KINDS, type Latencies } from './calm-clients.ts';
import { Site } from './site.ts';

/** In ms: what takes no longer is no harm, however quick it is in calm. */
const FLOOR_MS = 50;
/** Memory of the process, whatever comes: in calm it has some 180 MiB. */
const MOST_BYTES = 450 * 1024 * 1024;
/** The machine may have had something else to do: a fault is there each time. */
const TRIES = 3;

const missing = !existsSync('/usr/bin/slowhttptest') && !process.env.HOLDFAST_REQUIRE_SERVICES;

/** @param attackMs How long each attack is measured. */
export function underAttack(attackMs: number): void {
  let site: Site;
  let clients: CalmClients;
  let calm: Latencies;

  beforeAll(async () => {
    site = await Site.start();
    clients = await CalmClients.start(site.ports.plain);
    // What is compiled meanwhile, and a password compared.
    await sleep(1_500);
    await clients.p99();
    await sleep(2_500);
    calm = await clients.p99();
    say('in calm', calm);
  });
  afterAll(async () => {
    clients?.close();
    await site?.[Symbol.asyncDispose]();
  });
  afterEach(() => {
    expect(clients.failures.splice(0)).toEqual([]);
    expect(site.peakBytes).toBeLessThan(MOST_BYTES);
  });

  function say(what: string, took: Latencies): void {
    const times = KINDS.map(kind => `${kind} ${took[kind].toFixed(1)} ms`).join(', ');
    console.log(`p99 ${what}: ${times}; at most ${Math.round(site.peakBytes / 1024 / 1024)} MiB`);
  }

  /** Of all others, while it goes on. */
  async function expectQuick(what: string): Promise<void> {
    for (let tries = 1; ; tries++) {
      await clients.p99();
      await sleep(attackMs);
      const took = await clients.p99();
      say(`under ${what}`, took);
      const slow = KINDS.filter(kind => took[kind] > Math.max(FLOOR_MS, 3 * calm[kind]));
      if (slow.length === 0) return;
      if (tries === TRIES) expect({ slow, took, calm }).toMatchObject({ slow: [] });
    }
  }

  async function attacked(name: AttackName, isSeen: () => boolean = () => true): Promise<Tally> {
    using attack = await Attack.start(name, site.ports);
    await expectQuick(name);
    await expect.poll(isSeen).toBe(true);
    return await (name === 'addresses' ? attack.ended : attack.end());
  }

  const isBanned = (address: string, jail: string) =>
    site.events('banned', address).some(({ jail: named }) => named === jail);
  const areBanned = (...bans: [address: string, jail: string][]) => bans.every(ban => isBanned(...ban));

  test('10,000 addresses are each answered', async () => {
    expect(await attacked('addresses')).toEqual({ '200 404': 10_000 });
  });

  // Without a ban: `slow-client` is counted by no jail.
  test.skipIf(missing)('slow heads are all cut', async () => {
    const url = `http://127.0.0.1:${site.ports.plain}/`;
    const options = ['-H', '-c', '1000', '-r', '500', '-i', '1', '-x', '24', '-l', '60'];
    const program = spawn('slowhttptest', [...options, '-u', url], { stdio: ['ignore', 'pipe', 'inherit'] });
    const printed = text(program.stdout);
    try {
      await expectQuick('slow heads');
      expect(await printed).toContain('No open connections left');
    } finally {
      program.kill('SIGKILL');
    }
  });

  test('handshakes without end are refused, then cut; a full server refuses more, and serves pages', async () => {
    const seen = () => areBanned(['127.0.0.66', 'rate'], ['127.0.0.67', 'handshake']);
    const tally = await attacked('handshakes', seen);
    expect(tally).toMatchObject({ 101: expect.any(Number), 429: expect.any(Number), cut: expect.any(Number) });
    expect(tally['bad 400'] ?? tally['bad 426']).toBeGreaterThanOrEqual(20);
    expect(tally).toMatchObject({ 'other 101': expect.any(Number), 'other 503': expect.any(Number) });
    await Promise.all(['127.0.0.66', '127.0.0.67'].map(expectIn));
  });

  test('guesses at a password, from one address and from thousands, do not hold up its user', async () => {
    const tally = await attacked('guesses', () => isBanned('127.0.0.68', 'login'));
    expect(tally).toMatchObject({ cut: expect.any(Number), 'other 401': expect.any(Number) });
    expect(tally['200'] ?? tally['other 200']).toBe(undefined);
    await expectIn('127.0.0.68');
  });

  test.each([
    ['messages', 1],
    ['pings', 2],
    ['fragments', 3],
  ] as const)('floods of %s wait, or are cut and banned where it is said', async (name, net) => {
    const strict = [3, 6, 9].map(i => `127.0.${net}.${i}`);
    const tally = await attacked(name, () => strict.every(address => isBanned(address, 'protocol')));
    expect(tally).toMatchObject({ '/endpoint 101': 3, '/relay 101': 3 });
    expect(tally).not.toHaveProperty('/endpoint cut');
    expect(tally).not.toHaveProperty('/relay cut');
    expect(tally['/strict cut']).toBeGreaterThanOrEqual(5);
    await Promise.all(strict.map(expectIn));
  });

  /** A client that was banned is cut, and comes in when the ban is over. */
  async function expectIn(address: string): Promise<void> {
    await expect.poll(() => site.statusFrom(address), { interval: 200 }).toBe(200);
  }

  describe('when all is over', () => {
    test('it is as quick as before', async () => {
      await expectQuick('nothing');
    });
  });
}
