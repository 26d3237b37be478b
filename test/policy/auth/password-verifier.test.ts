import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../../src/base/logger.ts';
import type { PasswordHash } from '../../../src/policy/auth/passwords/password-hash.ts';
import { readPasswordHash } from '../../../src/policy/auth/passwords/password-hash.ts';
import {
  LONGEST_WAIT_MS,
  MOST_WAITING,
  MOST_WAITING_OF_NETWORK,
  PasswordVerifier,
  type Verified,
} from '../../../src/policy/auth/passwords/password-verifier.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { PASSWORD, VERIFIED } from './written-hashes.ts';

const verifiers: PasswordVerifier[] = [];
afterEach(async () => {
  for (const verifier of verifiers.splice(0)) await verifier.close();
});

/** With one thread, so that everything waits behind the first. */
function verifierWith(clock = new FakeClock(), lines: object[] = []): PasswordVerifier {
  const logger = { ...silentLogger, error: (fields: object) => void lines.push(fields) };
  const verifier = new PasswordVerifier({ clock, logger, threads: 1 });
  verifiers.push(verifier);
  return verifier;
}

/** Some 4 ms. */
const QUICK = readPasswordHash(VERIFIED[0]![1]) as PasswordHash;
/** Seconds, which no test waits for. */
const SLOW = readPasswordHash(`$2y$16$${'a'.repeat(53)}`) as PasswordHash;

/** What has come of each so far, in the order in which it came. */
function record(order: string[], name: string, verified: Promise<Verified>): void {
  void verified.then(result => order.push(`${name} ${result}`));
}

const turn = () => new Promise(resolve => setImmediate(resolve));

describe('passwords are compared in a thread', () => {
  test('one after the other, while the event loop goes on', async () => {
    const verifier = verifierWith();
    verifier.start();
    let turns = 0;
    const counting = setInterval(() => turns++, 1);
    const results = await Promise.all(
      [PASSWORD, 'wrong', 'x'.repeat(73), PASSWORD].map(password => verifier.verify(password, QUICK, '192.0.2.1')),
    );
    clearInterval(counting);
    expect(results).toEqual(['right', 'wrong', 'too-long', 'right']);
    expect(turns).toBeGreaterThan(3);
  });

  test('networks take turns: one that asks for many waits for itself', async () => {
    const verifier = verifierWith();
    const order: string[] = [];
    const all = ['2001:db8::1', '2001:db8::2', '2001:db8::3', '192.0.2.1', '192.0.2.2'].map(async address => {
      await verifier.verify('wrong', QUICK, address);
      order.push(address);
    });
    await Promise.all(all);
    // The first one found the thread free; the rest of its /64 takes turns with the others.
    expect(order).toEqual(['2001:db8::1', '2001:db8::2', '192.0.2.1', '192.0.2.2', '2001:db8::3']);
  });

  test('a network has 128 places, and of 1,024 all together one with many gives way to one with fewer', async () => {
    const verifier = verifierWith();
    const order: string[] = [];
    record(order, 'at work', verifier.verify('x', SLOW, '192.0.2.250'));
    for (let network = 0; network < MOST_WAITING / MOST_WAITING_OF_NETWORK; network++)
      for (let i = 0; i < MOST_WAITING_OF_NETWORK; i++)
        record(order, `${network}/${i}`, verifier.verify('x', SLOW, `192.0.2.${network}`));
    await turn();
    expect(order).toEqual([]);

    record(order, 'one too many', verifier.verify('x', SLOW, '192.0.2.3'));
    await turn();
    expect(order).toEqual(['one too many busy']);

    record(order, 'of another', verifier.verify('x', SLOW, '198.51.100.1'));
    await turn();
    expect(order.slice(1)).toEqual(['0/127 busy']);
  });

  test('what has waited for ten seconds gives up, and frees its place', async () => {
    const clock = new FakeClock();
    const verifier = verifierWith(clock);
    const order: string[] = [];
    record(order, 'at work', verifier.verify('x', SLOW, '192.0.2.1'));
    for (let i = 0; i < MOST_WAITING_OF_NETWORK; i++) record(order, 'waits', verifier.verify('x', SLOW, '192.0.2.1'));
    await clock.advance(LONGEST_WAIT_MS - 1);
    expect(order).toEqual([]);
    await clock.advance(1_000);
    expect(order).toEqual(Array(MOST_WAITING_OF_NETWORK).fill('waits busy'));
    record(order, 'next', verifier.verify('x', SLOW, '192.0.2.1'));
    await turn();
    expect(order).not.toContain('next busy');
  });

  test('a thread that ends takes its own login with it, is logged, and has a successor', async () => {
    const lines: object[] = [];
    const verifier = verifierWith(new FakeClock(), lines);
    const broken = { form: 'bcrypt', text: undefined } as never;
    const results = ['192.0.2.1', '192.0.2.2'].map((address, i) =>
      verifier.verify(PASSWORD, i === 0 ? broken : QUICK, address),
    );
    expect(await Promise.all(results)).toEqual(['failed', 'right']);
    expect(lines).toEqual([expect.objectContaining({ event: 'password-thread-lost' })]);
  });

  test('when it is closed, nobody waits any longer', async () => {
    const lines: object[] = [];
    const verifier = verifierWith(new FakeClock(), lines);
    const results = Promise.all([1, 2, 3].map(i => verifier.verify('x', SLOW, `192.0.2.${i}`)));
    await verifier.close();
    expect(await results).toEqual(['failed', 'failed', 'failed']);
    expect(await verifier.verify('x', QUICK, '192.0.2.1')).toBe('failed');
    expect(lines).toEqual([]);
  });

  test('a bundle that lacks the program of the threads is found at the start, and not by the first login', () => {
    const program = new URL('missing.js', import.meta.url);
    const verifier = new PasswordVerifier({ clock: new FakeClock(), logger: silentLogger, program });
    verifiers.push(verifier);
    expect(() => verifier.start()).toThrowError(
      expect.objectContaining({ code: 'ERR_SERVER_FAILED', message: expect.stringContaining(fileURLToPath(program)) }),
    );
  });
});
