import { BlockList, isIPv4 } from 'node:net';
import { describe, expect, test } from 'vitest';
import { type AddressLists, createAddressRules, doubtfulRules } from '../../src/http/address-rules.ts';
import { seededRandom } from '../websocket/protocol/seeded-random.ts';

describe('lists of addresses', () => {
  test.each<[what: string, lists: AddressLists, allowed: string[], denied: string[]]>([
    ['without entries allow all', {}, ['10.0.0.1', '::1', '', 'unknown'], []],
    ['with "allow" deny others', { allow: ['10.0.0.0/8'] }, ['10.9.9.9'], ['11.0.0.1', '::1', '', 'unknown', '_x']],
    ['with "deny" allow others', { deny: ['10.0.0.0/8'] }, ['11.0.0.1', '::1', '', 'unknown'], ['10.9.9.9']],
    [
      'decide by the longest prefix, whichever list it is in',
      { allow: ['10.0.0.0/8', '10.1.2.0/24', '2001:db8::/32'], deny: ['10.1.0.0/16', '10.1.2.3', '2001:db8:1::/48'] },
      ['10.2.0.1', '10.1.2.4', '2001:db8:2::1'],
      ['10.1.0.1', '10.1.2.3', '10.1.3.1', '2001:db8:1::1', '11.0.0.1', 'fe80::1'],
    ],
    [
      'decide by "deny" where a block is in both, however it is written',
      { allow: ['10.0.0.7/8', '0.0.0.0/0'], deny: ['::ffff:10.0.0.0/104', '0.0.0.0/0'] },
      [],
      ['10.1.1.1', '11.1.1.1'],
    ],
    ['know IPv4 in IPv6', { deny: ['10.0.0.0/8'] }, ['::10.1.1.1'], ['::ffff:10.1.1.1', '::FFFF:a01:101']],
    [
      'take 0.0.0.0/0 for IPv4',
      { allow: ['0.0.0.0/0'] },
      ['203.0.113.1', '::ffff:203.0.113.1'],
      ['2001:db8::1', '::1'],
    ],
    ['take ::/0 for IPv6', { deny: ['::/0'] }, ['203.0.113.1', '::ffff:203.0.113.1'], ['2001:db8::1', '::1']],
    ['look at no zone', { allow: ['fe80::/10'] }, ['fe80::1%eth0'], ['fec0::1']],
  ])('%s', (_, lists, allowed, denied) => {
    const verdictOn = createAddressRules(lists);
    for (const address of allowed) expect([address, verdictOn(address)]).toEqual([address, 'allow']);
    for (const address of denied) expect([address, verdictOn(address)]).toEqual([address, 'deny']);
  });

  test.each(['localhost', '10.0.0.0/33', '10.1', '', '::/129', 'fe80::1%eth0'])('refuse the entry %j', entry => {
    expect(() => createAddressRules({ deny: [entry] })).toThrow(JSON.stringify(entry));
  });

  test('say of every address what a search through all blocks says', () => {
    const random = seededRandom(7);
    for (let round = 0; round < 200; round++) {
      const lists = randomLists(random);
      const verdictOn = createAddressRules(lists);
      for (let i = 0; i < 20; i++) {
        const address = randomAddress(random);
        expect([lists, address, verdictOn(address)]).toEqual([lists, address, searched(lists, address)]);
      }
    }
  });
});

describe('what is doubtful in lists of addresses', () => {
  test.each<[AddressLists, string[]]>([
    [{ allow: ['10.0.0.0/8'] }, []],
    [{ allow: ['10.0.0.0/8'], deny: ['10.1.0.0/16'] }, []],
    [{ allow: ['10.0.0.0/8', '10.0.0.0/8'] }, ['allow 1 never matters: 10.0.0.0/8 is in the list already; remove it']],
    [
      { allow: ['10.0.0.0/8'], deny: ['10.0.0.0/8', '11.0.0.0/8'] },
      [
        'allow 0 never matters: 10.0.0.0/8 is under "deny" too, which counts more; remove it',
        'deny 1 never matters: what is not under "allow" is denied anyway; remove it',
      ],
    ],
    [{ deny: ['10.0.0.0/8', '10.1.0.0/16'] }, ['deny 1 never matters: 10.0.0.0/8 denies it already; remove it']],
    [
      { allow: ['10.0.0.0/8', '10.1.0.0/16', '::1'] },
      ['allow 1 never matters: 10.0.0.0/8 allows it already; remove it'],
    ],
    [
      { allow: ['10.0.0.0/8'], deny: ['10.0.0.0/9', '10.128.0.0/9'] },
      ['allow 0 never matters: smaller blocks decide for every address of 10.0.0.0/8; remove it'],
    ],
    [
      { allow: ['10.0.0.7/8'] },
      [
        'allow 0 "10.0.0.7/8" is the block 10.0.0.0/8, with 16,777,216 addresses; write that, or the longer prefix that you mean',
      ],
    ],
    [{ deny: ['0.0.0.0/0'] }, ['deny "0.0.0.0/0" holds no IPv6 address; add "::/0" when those are meant too']],
    [{ allow: ['::/0'] }, ['allow "::/0" holds no IPv4 address; add "0.0.0.0/0" when those are meant too']],
    [{ allow: ['0.0.0.0/0', '::/0'] }, []],
    [
      { allow: ['10.0.0.0/8'], deny: ['10.1.0.0/16', '::/0'] },
      ['deny 1 never matters: what is not under "allow" is denied anyway; remove it'],
    ],
  ])('%j', (lists, expected) => {
    const said = doubtfulRules(lists).map(({ list, index, message }) =>
      [list, index, message].filter(x => x !== undefined).join(' '),
    );
    expect(said).toEqual(expected);
  });

  test('an entry of which it is said that it never matters can be removed, and no other can', () => {
    const random = seededRandom(11);
    for (let round = 0; round < 300; round++) {
      const lists = randomLists(random, 5);
      const idle = doubtfulRules(lists).filter(({ message }) => message.startsWith('never matters'));
      for (const list of ['allow', 'deny'] as const)
        for (const index of (lists[list] ?? []).keys()) {
          // Without any "allow" the default is another.
          if (list === 'allow' && lists.allow!.length === 1) continue;
          const rest = { ...lists, [list]: lists[list]!.toSpliced(index, 1) };
          const isSaid = idle.some(one => one.list === list && one.index === index);
          const probes = Array.from({ length: 256 }, (_, i) => `10.0.0.${i}`);
          const [before, after] = [createAddressRules(lists), createAddressRules(rest)];
          const differs = probes.some(address => before(address) !== after(address));
          // Of an entry that is there twice, the first could go as well.
          if (isSaid) expect([lists, list, index, differs]).toEqual([lists, list, index, false]);
          else if (!differs)
            expect(lists[list]!.filter(entry => entry === lists[list]![index]).length).toBeGreaterThan(1);
        }
    }
  });
});

/** In a small space, so that blocks meet. */
function randomLists(random: (below: number) => number, most = 8): AddressLists {
  const entries = () =>
    Array.from({ length: 1 + random(most) }, () => {
      const bits = 24 + random(9);
      const last = random(256) & (0xff << (32 - bits));
      return bits === 32 ? `10.0.0.${last}` : `10.0.0.${last}/${bits}`;
    });
  return { ...(random(10) < 7 && { allow: entries() }), ...(random(10) < 7 && { deny: entries() }) };
}

function randomAddress(random: (below: number) => number): string {
  return `10.0.0.${random(256)}`;
}

function searched({ allow, deny }: AddressLists, address: string): 'allow' | 'deny' {
  let verdict: 'allow' | 'deny' = allow ? 'deny' : 'allow';
  let longest = -1;
  for (const [list, entries] of [
    ['allow', allow],
    ['deny', deny],
  ] as const)
    for (const entry of entries ?? []) {
      const [start, bits = '32'] = entry.split('/') as [string, string?];
      const block = new BlockList();
      block.addSubnet(start, Number(bits), 'ipv4');
      if (!isIPv4(address) || !block.check(address) || Number(bits) < longest) continue;
      longest = Number(bits);
      verdict = list;
    }
  return verdict;
}
