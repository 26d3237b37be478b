import { describe, expect, test } from 'vitest';
import { randomId } from '../../src/base/ids.ts';
import { type Balanced, choose, hash32, rendezvous } from '../../src/gateway/upstream/balancing.ts';

interface TestServer extends Balanced {
  readonly name: string;
  active: number;
}

const server = (name: string, weight = 1): TestServer => ({ name, weight, hashSeed: hash32(name), active: 0, turn: 0 });

function counts(names: Iterable<string>): Record<string, number> {
  const seen: Record<string, number> = {};
  for (const name of names) seen[name] = (seen[name] ?? 0) + 1;
  return seen;
}

describe('round-robin', () => {
  test('gives each server its share by weight, exactly, and spreads those of a heavy one', () => {
    const servers = [server('a', 5), server('b'), server('c')];
    const chosen = Array.from({ length: 7000 }, () => choose('round-robin', servers)!.name);
    expect(counts(chosen)).toEqual({ a: 5000, b: 1000, c: 1000 });
    expect(chosen.slice(0, 7).join('')).toBe('aabacaa');
  });

  test('begins with the first server', () => {
    expect(choose('round-robin', [server('a'), server('b')])!.name).toBe('a');
  });

  test('has nobody to choose when there is none', () => {
    expect(choose('round-robin', [])).toBeUndefined();
  });
});

describe('least connections', () => {
  test('takes the server that has the fewest for its weight', () => {
    const servers = [server('a', 2), server('b'), server('c')];
    for (let i = 0; i < 400; i++) choose('least-connections', servers)!.active++;
    expect(servers.map(({ active }) => active)).toEqual([200, 100, 100]);
    servers[1]!.active = 10;
    for (let i = 0; i < 80; i++) expect(choose('least-connections', servers)!.name).toBe('b');
  });

  test('takes turns while they have the same', () => {
    const servers = [server('a'), server('b'), server('c')];
    const chosen = Array.from({ length: 6 }, () => choose('least-connections', servers)!.name);
    expect(counts(chosen)).toEqual({ a: 2, b: 2, c: 2 });
  });
});

test('in order takes the first one always', () => {
  const servers = [server('a'), server('b', 100)];
  expect(Array.from({ length: 5 }, () => choose('in-order', servers)!.name).join('')).toBe('aaaaa');
});

describe('rendezvous hashing', () => {
  const sids = Array.from({ length: 10_000 }, () => randomId(16));
  const homes = (servers: TestServer[]) => sids.map(sid => rendezvous(sid, servers)!.name);
  const url = (i: number) => `http://10.0.0.${i}:3000`;

  test('gives servers of equal weight equal shares of 10,000 sessions', () => {
    const shares = counts(homes([1, 2, 3, 4].map(i => server(url(i)))));
    // Five standard deviations of 43.
    for (const i of [1, 2, 3, 4]) expect(Math.abs(shares[url(i)]! - 2500)).toBeLessThan(217);
  });

  test('gives weights their shares', () => {
    const shares = counts(homes([server(url(1), 3), server(url(2), 1)]));
    expect(Math.abs(shares[url(1)]! - 7500)).toBeLessThan(217);
  });

  test('moves only the share of a server that is added, and every one of them to it', () => {
    const before = homes([1, 2, 3, 4].map(i => server(url(i))));
    const after = homes([1, 2, 3, 4, 5].map(i => server(url(i))));
    const moved = sids.map((_, i) => i).filter(i => before[i] !== after[i]);
    // A fifth; five standard deviations of 40.
    expect(Math.abs(moved.length - 2000)).toBeLessThan(200);
    expect(new Set(moved.map(i => after[i]))).toEqual(new Set([url(5)]));
    expect(counts(after)[url(5)]).toBe(moved.length);
  });

  test('moves only those of a server that is removed, and to all the others', () => {
    const before = homes([1, 2, 3, 4].map(i => server(url(i))));
    const after = homes([1, 2, 4].map(i => server(url(i))));
    const moved = sids.map((_, i) => i).filter(i => before[i] !== after[i]);
    expect(new Set(moved.map(i => before[i]))).toEqual(new Set([url(3)]));
    expect(counts(before)[url(3)]).toBe(moved.length);
    for (const count of Object.values(counts(moved.map(i => after[i]!)))) expect(count).toBeGreaterThan(600);
  });

  test('does not depend on the order of the servers, nor on the process', () => {
    const servers = [1, 2, 3, 4].map(i => server(url(i)));
    expect(homes(servers)).toEqual(homes(servers.toReversed()));
    // Another process, or a later version, must send these sessions to the same places.
    const known = [
      'AAAAAAAAAAAAAAAAAAAAAA',
      'BBBBBBBBBBBBBBBBBBBBBB',
      'abcdefghijklmnopqrstuv',
      '0123456789012345678901',
    ];
    expect(known.map(sid => rendezvous(sid, servers)!.name.at(-6))).toEqual(['4', '1', '2', '1']);
  });
});
