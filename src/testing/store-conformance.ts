import assert from 'node:assert/strict';
import type { CommitResult, SessionHeader, SessionRecord, SessionStore } from '../session/store.ts';

/** The two functions of a test runner that the suite needs: those of `node:test`, vitest, jest and others fit. */
export interface TestRunner {
  describe(name: string, body: () => void): unknown;
  test(name: string, body: () => Promise<void>): unknown;
}

/**
 * The contract of `SessionStore` as tests. Every store of the project passes them; so must yours.
 *
 * ```ts
 * import { describe, test } from 'node:test';
 * storeConformance('my store', () => new MyStore(), { describe, test });
 * ```
 *
 * @param open Makes an empty store. Each test asks for its own and closes it.
 */
export function storeConformance(
  name: string,
  open: () => SessionStore | Promise<SessionStore>,
  runner: TestRunner,
): void {
  runner.describe(`session store contract: ${name}`, () => {
    for (const [title, check] of Object.entries(CASES)) {
      runner.test(title, async () => {
        const store = await open();
        try {
          await check(store);
        } finally {
          await store.close();
        }
      });
    }
  });
}

const NOW = Date.UTC(2026, 0, 1);
const PARALLEL = 20;

/** Texts that break a store which builds keys, paths, patterns or objects out of what it is given. Each is another one. */
const HOSTILE = [
  '',
  ' ',
  'a',
  'a ',
  'A',
  'a\0',
  'a\0b',
  'a:b',
  'a.b',
  'a/b',
  'a%00b',
  'a\nb',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  '../../etc/passwd',
  '*',
  '%',
  '{tag}',
  '$1',
  "'; DROP TABLE sessions; --",
  'ä',
  'a\u0308',
  '😀',
  '\ud800',
  '\udfff',
  '\ufffd',
  'x'.repeat(63),
  'x'.repeat(64),
  'x'.repeat(5_000),
  'y'.repeat(5_000),
];

const CASES: Readonly<Record<string, (store: SessionStore) => Promise<void>>> = {
  async 'gives back what was created'(store) {
    const created = record({ attributes: { cart: 'three apples', theme: 'dark' }, version: 3 });
    assert.equal(await store.create('s1', created), true);
    assertSame(await store.read('s1'), created);
    assert.equal(await store.readVersion('s1'), 3);
  },

  async 'knows nothing of a session that was never created'(store) {
    assert.equal(await store.read('s1'), undefined);
    assert.equal(await store.readVersion('s1'), undefined);
    assert.equal(await store.delete('s1'), false);
    assert.equal(await store.count(), 0);
  },

  async 'creates only what is absent, and for one caller'(store) {
    const answers = await parallel(index => store.create('s1', record({ attributes: { by: String(index) } })));
    assert.equal(answers.filter(Boolean).length, 1);
    assert.equal(text((await store.read('s1'))!, 'by'), String(answers.indexOf(true)));
    assert.equal(await store.count(), 1);
  },

  async 'keeps bytes of every value and of no length'(store) {
    const all = Uint8Array.from({ length: 256 }, (_, index) => index);
    const large = new Uint8Array(1024 * 1024).fill(7);
    await store.create('s1', record());
    await store.commit('s1', {
      set: new Map([
        ['all', all],
        ['none', new Uint8Array(0)],
        ['large', large],
      ]),
    });
    const { attributes } = (await store.read('s1'))!;
    assert.deepEqual(Uint8Array.from(attributes.get('all')!.value), all);
    assert.equal(attributes.get('none')!.value.length, 0);
    assert.deepEqual(Uint8Array.from(attributes.get('large')!.value), large);
  },

  async 'merges commits that change different attributes'(store) {
    await store.create('s1', record({ attributes: { kept: 'yes' } }));
    const results = await parallel(index => store.commit('s1', { set: bytes({ [`key${index}`]: String(index) }) }));
    assert.ok(results.every(({ status }) => status === 'committed'));
    const read = (await store.read('s1'))!;
    assert.equal(text(read, 'kept'), 'yes');
    for (let index = 0; index < PARALLEL; index++) assert.equal(text(read, `key${index}`), String(index));
  },

  async 'counts each commit in the version of the record, once'(store) {
    await store.create('s1', record({ version: 1 }));
    const results = await parallel(index => store.commit('s1', { set: bytes({ key: String(index) }) }));
    const versions = results.map(committedVersion).sort((a, b) => a - b);
    assert.deepEqual(
      versions,
      Array.from({ length: PARALLEL }, (_, index) => index + 2),
    );
    assert.equal(await store.readVersion('s1'), PARALLEL + 1);
    assert.equal((await store.read('s1'))!.version, PARALLEL + 1);
  },

  async 'counts each write of an attribute in its version and leaves the others alone'(store) {
    await store.create('s1', record({ attributes: { a: '1', b: '1' } }));
    const before = (await store.read('s1'))!.attributes;
    await store.commit('s1', { set: bytes({ a: '2' }) });
    await store.commit('s1', { set: bytes({ a: '3' }) });
    const after = (await store.read('s1'))!.attributes;
    assert.equal(after.get('a')!.version, before.get('a')!.version + 2);
    assert.equal(after.get('b')!.version, before.get('b')!.version);
  },

  async 'never gives an attribute a version that it had before it was deleted'(store) {
    await store.create('s1', record({ attributes: { a: '1' } }));
    const seen = new Set<number>();
    for (let round = 0; round < 3; round++) {
      for (let write = 0; write < 3; write++) {
        await store.commit('s1', { set: bytes({ a: 'x' }) });
        const { version } = (await store.read('s1'))!.attributes.get('a')!;
        assert.ok(version > 0 && !seen.has(version), `version ${version} came back`);
        seen.add(version);
      }
      await store.commit('s1', { deleted: new Set(['a']) });
      assert.equal((await store.read('s1'))!.attributes.has('a'), false);
    }
  },

  async 'deletes attributes, also ones that are not there'(store) {
    await store.create('s1', record({ attributes: { a: '1', b: '2' } }));
    const result = await store.commit('s1', { deleted: new Set(['a', 'unknown']), set: bytes({ c: '3' }) });
    assert.equal(result.status, 'committed');
    assert.deepEqual([...(await store.read('s1'))!.attributes.keys()].sort(), ['b', 'c']);
  },

  async 'replaces the header fields that are named, removes those that are undefined, keeps the rest'(store) {
    const header = { secretHash: 'old', createdAt: NOW, idleTimeoutMs: 1_000, absoluteExpiresAt: NOW + 9_000 };
    await store.create('s1', record({ header }));
    await Promise.all([
      store.commit('s1', { header: { secretHash: 'new', owner: { name: 'ann', roles: ['user'] } } }),
      store.commit('s1', { header: { idleTimeoutMs: undefined } }),
    ]);
    const after = (await store.read('s1'))!.header;
    assert.equal(after.secretHash, 'new');
    assert.deepEqual(after.owner, { name: 'ann', roles: ['user'] });
    assert.equal(after.idleTimeoutMs, undefined);
    assert.equal(after.absoluteExpiresAt, NOW + 9_000);
    assert.equal(after.createdAt, NOW);
  },

  async 'commits nothing to a session that is gone and does not bring it back'(store) {
    assert.equal((await store.commit('s1', { set: bytes({ a: '1' }) })).status, 'gone');
    await store.create('s1', record({ attributes: { a: '1' } }));
    await store.delete('s1');
    const late = await store.commit('s1', {
      set: bytes({ a: '2' }),
      header: { secretHash: 'x' },
    });
    assert.equal(late.status, 'gone');
    await store.touch(new Map([['s1', NOW + 2]]));
    assert.equal(await store.read('s1'), undefined);
    assert.equal(await store.count(), 0);
    assert.deepEqual(await store.expired(NOW + 1e12, 10), []);
  },

  async 'lets no commit or touch bring a session back that is deleted at the same moment'(store) {
    for (let round = 0; round < PARALLEL; round++) {
      const sid = `s${round}`;
      await store.create(sid, record());
      const commits = Array.from({ length: 5 }, (_, index) =>
        store.commit(sid, { set: bytes({ [`k${index}`]: 'x' }) }),
      );
      await Promise.all([...commits, store.delete(sid), store.touch(new Map([[sid, NOW + 5]])), ...commits]);
      assert.equal(await store.read(sid), undefined);
    }
    assert.equal(await store.count(), 0);
  },

  async 'starts empty when a sid is created again'(store) {
    await store.create('s1', record({ attributes: { a: '1' } }));
    await store.delete('s1');
    await store.create('s1', record({ attributes: { b: '2' } }));
    assert.deepEqual([...(await store.read('s1'))!.attributes.keys()], ['b']);
  },

  async 'writes nothing at all when an expected version does not match'(store) {
    const created = record({ attributes: { a: '1', b: '1' }, version: 1 });
    await store.create('s1', created);
    const changes = {
      set: bytes({ b: '2', c: '2' }),
      deleted: new Set(['a']),
      header: { secretHash: 'x' },
    };
    for (const expected of [new Map([['a', 99]]), new Map([['a', 0]]), new Map([['absent', 1]])]) {
      assert.deepEqual(await store.commit('s1', { ...changes, expected }), { status: 'conflict' });
    }
    assertSame(await store.read('s1'), created);
  },

  async 'takes 0 as the version of an attribute that is absent'(store) {
    await store.create('s1', record());
    const expected = new Map([['a', 0]]);
    assert.equal((await store.commit('s1', { set: bytes({ a: '1' }), expected })).status, 'committed');
    assert.equal((await store.commit('s1', { set: bytes({ a: '2' }), expected })).status, 'conflict');
    assert.equal(text((await store.read('s1'))!, 'a'), '1');
  },

  async 'lets one of several compare-and-swaps win'(store) {
    await store.create('s1', record({ attributes: { n: '0' } }));
    const expected = new Map([['n', (await store.read('s1'))!.attributes.get('n')!.version]]);
    const results = await parallel(index => store.commit('s1', { set: bytes({ n: String(index) }), expected }));
    assert.equal(results.filter(({ status }) => status === 'committed').length, 1);
    assert.equal(results.filter(({ status }) => status === 'conflict').length, PARALLEL - 1);
  },

  async 'tells exactly one caller that it has deleted a session'(store) {
    await store.create('s1', record({ attributes: { a: '1' } }));
    const answers = await parallel(() => store.delete('s1'));
    assert.equal(answers.filter(Boolean).length, 1);
    assert.equal(await store.delete('s1'), false);
  },

  async 'moves last access forward only, and no version with it'(store) {
    await store.create('s1', record({ lastAccessedAt: NOW }));
    await store.create('s2', record({ lastAccessedAt: NOW }));
    await store.touch(
      new Map([
        ['s1', NOW + 5_000],
        ['s2', NOW - 5_000],
        ['unknown', NOW],
      ]),
    );
    assert.equal((await store.read('s1'))!.lastAccessedAt, NOW + 5_000);
    assert.equal((await store.read('s2'))!.lastAccessedAt, NOW);
    assert.equal(await store.readVersion('s1'), 1);
    assert.equal(await store.read('unknown'), undefined);
    await store.commit('s1', { set: bytes({ a: '1' }) });
    assert.equal((await store.read('s1'))!.lastAccessedAt, NOW + 5_000);
  },

  async 'finds what has expired, the earliest first, up to the limit, and deletes none'(store) {
    await store.create('idle-3', record({ header: idle(3_000) }));
    await store.create('idle-1', record({ header: idle(1_000) }));
    await store.create('absolute-2', record({ header: { ...idle(60_000), absoluteExpiresAt: NOW + 2_000 } }));
    await store.create('later', record({ header: idle(60_000) }));
    await store.create('never', record({ header: { secretHash: 'x', createdAt: NOW } }));
    assert.deepEqual(await store.expired(NOW + 500, 10), []);
    assert.deepEqual(await store.expired(NOW + 2_500, 10), ['idle-1', 'absolute-2']);
    assert.deepEqual(await store.expired(NOW + 10_000, 2), ['idle-1', 'absolute-2']);
    assert.deepEqual(await store.expired(NOW + 10_000, 10), ['idle-1', 'absolute-2', 'idle-3']);
    assert.ok(await store.read('idle-1'));
    await store.delete('idle-1');
    assert.deepEqual(await store.expired(NOW + 10_000, 10), ['absolute-2', 'idle-3']);
  },

  async 'judges expiry by the last access and the limits as they are now'(store) {
    for (const sid of ['touched', 'shorter', 'longer', 'endless', 'hardly touched'])
      await store.create(sid, record({ header: idle(2_000) }));
    await store.touch(
      new Map([
        ['touched', NOW + 1_500],
        ['hardly touched', NOW + 500],
      ]),
    );
    await store.commit('shorter', { header: { idleTimeoutMs: 1_000 } });
    await store.commit('longer', { header: { idleTimeoutMs: 4_000 } });
    await store.commit('endless', { header: { idleTimeoutMs: undefined } });
    assert.deepEqual(await store.expired(NOW + 1_200, 10), ['shorter']);
    assert.deepEqual(await store.expired(NOW + 3_000, 10), ['shorter', 'hardly touched']);
    assert.deepEqual(await store.expired(NOW + 3_600, 1), ['shorter']);
    assert.deepEqual(await store.expired(NOW + 1e9, 10), ['shorter', 'hardly touched', 'touched', 'longer']);
    await store.commit('endless', { header: { idleTimeoutMs: 500 } });
    assert.deepEqual(await store.expired(NOW + 600, 10), ['endless']);
  },

  async 'lists and counts every session once'(store) {
    const sids = Array.from({ length: 600 }, (_, index) => `session-${index}`);
    await Promise.all(sids.map(sid => store.create(sid, record())));
    await store.delete('session-7');
    const listed: string[] = [];
    for await (const sid of store.sids()) listed.push(sid);
    assert.deepEqual(listed.sort(), sids.filter(sid => sid !== 'session-7').sort());
    assert.equal(await store.count(), 599);
  },

  async 'keeps hostile sids apart'(store) {
    for (const sid of HOSTILE) assert.equal(await store.read(sid), undefined);
    for (const [index, sid] of HOSTILE.entries()) {
      assert.equal(await store.create(sid, record({ attributes: { index: String(index) } })), true);
    }
    for (const [index, sid] of HOSTILE.entries()) assert.equal(text((await store.read(sid))!, 'index'), String(index));
    const listed: string[] = [];
    for await (const sid of store.sids()) listed.push(sid);
    assert.deepEqual(listed.sort(), [...HOSTILE].sort());
    for (const sid of HOSTILE) assert.equal(await store.delete(sid), true);
    assert.equal(await store.count(), 0);
  },

  async 'keeps hostile attribute names apart'(store) {
    await store.create('s1', record());
    await store.create('s', record());
    for (const [index, name] of HOSTILE.entries()) {
      assert.equal(
        (await store.commit('s1', { set: new Map([[name, Buffer.from(String(index))]]) })).status,
        'committed',
      );
    }
    const read = (await store.read('s1'))!;
    for (const [index, name] of HOSTILE.entries()) assert.equal(text(read, name), String(index));
    assert.equal(read.attributes.size, HOSTILE.length);
    assert.equal((await store.read('s'))!.attributes.size, 0);
    await store.commit('s1', { deleted: new Set(HOSTILE) });
    assert.equal((await store.read('s1'))!.attributes.size, 0);
  },

  async 'gives a snapshot that later changes do not touch'(store) {
    await store.create('s1', record({ attributes: { a: '1' } }));
    const before = (await store.read('s1'))!;
    await store.commit('s1', {
      set: bytes({ a: '2', b: '2' }),
      header: { secretHash: 'new' },
    });
    await store.touch(new Map([['s1', NOW + 1]]));
    assertSame(before, record({ attributes: { a: '1' } }));
  },
};

function parallel<T>(call: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: PARALLEL }, (_, index) => call(index)));
}

function record(
  parts: {
    header?: SessionHeader;
    version?: number;
    lastAccessedAt?: number;
    attributes?: Record<string, string>;
  } = {},
): SessionRecord {
  const { header = idle(60_000), version = 1, lastAccessedAt = NOW, attributes = {} } = parts;
  return {
    header,
    version,
    lastAccessedAt,
    attributes: new Map(
      Object.entries(attributes).map(([name, value]) => [name, { value: Buffer.from(value), version: 1 }]),
    ),
  };
}

function idle(idleTimeoutMs: number): SessionHeader {
  return { secretHash: 'hash', createdAt: NOW, idleTimeoutMs };
}

function bytes(attributes: Readonly<Record<string, string>>): Map<string, Uint8Array> {
  return new Map(Object.entries(attributes).map(([name, value]) => [name, Buffer.from(value)]));
}

function text({ attributes }: SessionRecord, name: string): string | undefined {
  const attribute = attributes.get(name);
  return attribute && Buffer.from(attribute.value).toString();
}

function committedVersion(result: CommitResult): number {
  assert.equal(result.status, 'committed');
  return (result as { version: number }).version;
}

function assertSame(actual: SessionRecord | undefined, expected: SessionRecord): void {
  assert.ok(actual);
  assert.deepEqual(plain(actual), plain(expected));
}

function plain({ header, version, lastAccessedAt, attributes }: SessionRecord): unknown {
  const values = Array.from(attributes, ([name, attribute]) => [
    name,
    Buffer.from(attribute.value).toString('hex'),
    attribute.version,
  ]);
  return { header: { ...header }, version, lastAccessedAt, attributes: values.sort() };
}
