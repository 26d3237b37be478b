import assert from 'node:assert/strict';
import { checkOptions, kindOf, type OptionNames } from '../base/options.ts';
import { firstVersion } from '../session/record/version.ts';
import type { CommitResult, SessionGlance, SessionHeader, SessionRecord, SessionStore } from '../session/store.ts';
import { HOSTILE } from './hostile-texts.ts';
import { PARALLEL, parallel, within } from './parallel.ts';

/** The two functions of a test runner that the suite needs: those of `node:test`, vitest, jest and others fit. */
export interface TestRunner {
  describe(name: string, body: () => void): unknown;
  test(name: string, body: () => Promise<void>): unknown;
}

export interface StoreConformanceOptions {
  /**
   * Opens another store on the data of the first, as another process would. Leave it out for a store whose data belong
   * to one process. With it the suite also checks that two stores agree, and `watch` where the store has it.
   */
  readonly openSecond?: (first: SessionStore) => SessionStore | Promise<SessionStore>;
}

/** @throws {TypeError} when these are not what a suite of ours needs. */
export function checkSuite(call: string, open: unknown, runner: TestRunner): void {
  if (typeof open !== 'function')
    throw new TypeError(`${call}: "open" is a function that makes an empty one, not ${kindOf(open)}`);
  if (typeof runner?.describe !== 'function' || typeof runner.test !== 'function')
    throw new TypeError(`${call}: "runner" has two functions, for example { describe, test } of node:test`);
}

const OPTIONS: OptionNames<StoreConformanceOptions> = { openSecond: 'function' };

/**
 * The contract of `SessionStore` as tests. Every store of the project passes them; so must yours.
 *
 * @param open Makes an empty store. Each test asks for its own and closes it; so it does with what `openSecond` made.
 *
 * @example
 * import { describe, test } from 'node:test';
 * import { MemoryStore } from 'holdfast/session';
 * import { storeConformance } from 'holdfast/testing';
 *
 * storeConformance('my store', () => new MemoryStore(), { describe, test });
 */
export function storeConformance(
  name: string,
  open: () => SessionStore | Promise<SessionStore>,
  runner: TestRunner,
  options: StoreConformanceOptions = {},
): void {
  checkOptions('storeConformance', options, OPTIONS);
  checkSuite('storeConformance', open, runner);
  const { openSecond } = options;
  runner.describe(`session store contract: ${name}`, () => {
    for (const [title, check] of Object.entries(CASES))
      runner.test(title, async () => {
        await using opened = new AsyncDisposableStack();
        await check(opened.adopt(await open(), close));
      });
    if (!openSecond) return;
    for (const [title, check] of Object.entries(CASES_OF_TWO))
      runner.test(title, async () => {
        await using opened = new AsyncDisposableStack();
        const store = opened.adopt(await open(), close);
        await check(store, opened.adopt(await openSecond(store), close));
      });
  });
}

function close(store: SessionStore): Promise<void> {
  return store.close();
}

const NOW = Date.UTC(2026, 0, 1);
/** A version with all the digits that one can have. */
const LARGE = Number.MAX_SAFE_INTEGER - 254;

const CASES: Readonly<Record<string, (store: SessionStore) => Promise<void>>> = {
  async 'gives back what was created'(store) {
    const created = record({ attributes: { cart: 'three apples', theme: 'dark' }, version: 3 });
    assert.equal(await store.create('s1', created), true);
    assertSame(await store.read('s1'), created);
    assert.equal((await store.glance('s1'))?.version, 3);
  },

  async 'knows nothing of a session that was never created'(store) {
    assert.equal(await store.read('s1'), undefined);
    assert.equal(await store.glance('s1'), undefined);
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
    await store.commit('s1', { set: new Map(Object.entries({ all, none: new Uint8Array(0), large })) });
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

  async 'gives each commit a version of its own, and says which one it has replaced'(store) {
    const version = firstVersion();
    await store.create('s1', record({ version }));
    const results = await parallel(index => store.commit('s1', { set: bytes({ key: String(index) }) }));
    const last = (await store.glance('s1'))!.version;
    assert.equal((await store.read('s1'))!.version, last);
    const replaced = new Map(results.map(committed).map(result => [result.version, result.previous]));
    assert.equal(replaced.size, PARALLEL);
    const chain = [last];
    while (replaced.has(chain.at(-1)!)) chain.push(replaced.get(chain.at(-1)!)!);
    assert.equal(chain.length, PARALLEL + 1);
    assert.equal(chain.at(-1), version);
    for (const each of chain) assert.ok(Number.isSafeInteger(each) && each > 0, `${each} is not a version`);
  },

  async 'goes on counting for a caller that follows itself, and begins a new lineage for any other'(store) {
    const version = firstVersion();
    const set = bytes({ a: '1' });
    await store.create('s1', record({ version }));
    assert.equal(committed(await store.commit('s1', { set, follows: version })).version, version + 1);
    const header = { secretHash: 'other' };
    assert.equal(committed(await store.commit('s1', { header, follows: version + 1 })).version, version + 2);
    const seen = [version + 2];
    for (const follows of [undefined, version + 1, version + 2]) {
      const { version: other } = committed(await store.commit('s1', { set, ...(follows && { follows }) }));
      assert.ok(!seen.some(before => lineageOf(before) === lineageOf(other)), `no new lineage after ${follows}`);
      seen.push(other);
    }
    // A lineage that is full; and the last of all.
    for (const full of [255, Number.MAX_SAFE_INTEGER]) {
      await store.create(`s${full}`, record({ version: full }));
      const { version: other } = committed(await store.commit(`s${full}`, { set, follows: full }));
      assert.ok(Number.isSafeInteger(other) && other > 0, `${other} is not a version`);
      assert.notEqual(lineageOf(other), lineageOf(full));
    }
  },

  async 'gives what is written no version that was lost when the store was set back'(store) {
    const set = bytes({ a: 'lost' });
    await store.create('s1', record({ version: firstVersion(), attributes: { a: 'kept' } }));
    const kept = (await store.read('s1'))!;
    const lost = new Set<number>();
    for (let follows = kept.version; lost.size < 3; lost.add(follows))
      follows = committed(await store.commit('s1', { set, follows })).version;
    for (const follows of [undefined, ...lost]) {
      await store.delete('s1');
      await store.create('s1', kept);
      assert.equal((await store.glance('s1'))!.version, kept.version);
      const { version } = committed(
        await store.commit('s1', { set: bytes({ a: 'new' }), ...(follows && { follows }) }),
      );
      assert.ok(!lost.has(version), `version ${version} came back`);
      assert.ok(!lost.has((await store.read('s1'))!.attributes.get('a')!.version));
      const expected = new Map([['a', Math.max(...lost)]]);
      assert.equal((await store.commit('s1', { set, expected })).status, 'conflict');
    }
  },

  async 'gives an attribute the version of the commit that wrote it, and leaves the others alone'(store) {
    await store.create('s1', record({ attributes: { a: '1', b: '1' } }));
    for (const value of ['2', '3']) {
      const { version } = committed(await store.commit('s1', { set: bytes({ a: value }) }));
      const { attributes } = (await store.read('s1'))!;
      assert.deepEqual([attributes.get('a')!.version, attributes.get('b')!.version], [version, 1]);
    }
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
    const late = await store.commit('s1', { set: bytes({ a: '2' }), header: { secretHash: 'x' } });
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
    const changes = { set: bytes({ b: '2', c: '2' }), deleted: new Set(['a']), header: { secretHash: 'x' } };
    for (const expected of [new Map([['a', 99]]), new Map([['a', 0]]), new Map([['absent', 1]])])
      assert.deepEqual(await store.commit('s1', { ...changes, expected }), { status: 'conflict' });
    assertSame(await store.read('s1'), created);
  },

  async 'replaces a secret for one of several who expect the same one before it'(store) {
    const header = { secretHash: 'old', createdAt: NOW };
    await store.create('s1', record({ header }));
    const results = await parallel(index =>
      store.commit('s1', {
        header: { secretHash: `new${index}` },
        set: bytes({ winner: String(index) }),
        expectedSecretHash: 'old',
      }),
    );
    assert.equal(results.filter(({ status }) => status === 'committed').length, 1);
    assert.equal(results.filter(({ status }) => status === 'conflict').length, PARALLEL - 1);
    const read = (await store.read('s1'))!;
    assert.equal(read.header.secretHash, `new${text(read, 'winner')}`);
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
    await store.touch(new Map(Object.entries({ s1: NOW + 5_000, s2: NOW - 5_000, unknown: NOW })));
    assert.equal((await store.read('s1'))!.lastAccessedAt, NOW + 5_000);
    assert.equal((await store.read('s2'))!.lastAccessedAt, NOW);
    assert.equal((await store.glance('s1'))?.version, 1);
    assert.equal(await store.read('unknown'), undefined);
    await store.commit('s1', { set: bytes({ a: '1' }) });
    assert.equal((await store.read('s1'))!.lastAccessedAt, NOW + 5_000);
  },

  async 'keeps the fraction of a last access, which says whose it is'(store) {
    await store.create('s1', record({ lastAccessedAt: NOW - 3 / 2048 }));
    assert.equal((await store.read('s1'))!.lastAccessedAt, NOW - 3 / 2048);
    assert.equal((await store.glance('s1'))!.lastAccessedAt, NOW - 3 / 2048);
    await store.touch(new Map([['s1', NOW - 1 / 2048]]));
    assert.equal((await store.glance('s1'))!.lastAccessedAt, NOW - 1 / 2048);
    await store.touch(new Map([['s1', NOW - 2 / 2048]]));
    assert.equal((await store.read('s1'))!.lastAccessedAt, NOW - 1 / 2048);
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
    await store.touch(new Map(Object.entries({ touched: NOW + 1_500, 'hardly touched': NOW + 500 })));
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
    for (const [index, sid] of HOSTILE.entries())
      assert.equal(await store.create(sid, record({ attributes: { index: String(index) } })), true);
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
      const { status } = await store.commit('s1', { set: new Map([[name, Buffer.from(String(index))]]) });
      assert.equal(status, 'committed');
    }
    const read = (await store.read('s1'))!;
    for (const [index, name] of HOSTILE.entries()) assert.equal(text(read, name), String(index));
    assert.equal(read.attributes.size, HOSTILE.length);
    assert.equal((await store.read('s'))!.attributes.size, 0);
    await store.commit('s1', { deleted: new Set(HOSTILE) });
    assert.equal((await store.read('s1'))!.attributes.size, 0);
  },

  async 'shows version and last access at a glance'(store) {
    await store.create('s1', record({ version: 4, attributes: { a: '1' } }));
    await expectGlance(store, 's1', { version: 4, lastAccessedAt: NOW });
    await store.touch(new Map([['s1', NOW + 5_000]]));
    await expectGlance(store, 's1', { version: 4, lastAccessedAt: NOW + 5_000 });
    const { version } = committed(await store.commit('s1', { set: bytes({ a: '2' }), follows: 4 }));
    assert.equal(version, 5);
    await expectGlance(store, 's1', { version, lastAccessedAt: NOW + 5_000 });
    const owned = committed(await store.commit('s1', { header: { owner: { name: 'ann', roles: [] } } }));
    await expectGlance(store, 's1', { version: owned.version, lastAccessedAt: NOW + 5_000 });
    await store.delete('s1');
    assert.equal(await store.glance('s1'), undefined);
  },

  async 'keeps header fields that it does not know'(store) {
    const newer = { device: { key: 'k', list: [1, [], {}], none: null }, flags: [], empty: {}, text: 'ä\0\ud800"\\' };
    const former = { secretHash: 'old', kind: 'rotated', until: NOW + 1 } as const;
    const header = { ...idle(60_000), secretAt: NOW, former, ...newer };
    await store.create('s1', record({ header }));
    await store.commit('s1', { set: bytes({ a: '1' }) });
    await store.commit('s1', { header: { owner: { name: 'ann', roles: ['user'] } } });
    await store.commit('s1', { header: { idleTimeoutMs: 70_000, secretHash: 'new' } });
    const owner = { name: 'ann', roles: ['user'] };
    assertHeader(await store.read('s1'), { ...header, idleTimeoutMs: 70_000, secretHash: 'new', owner });
    const changed: object = { former: undefined, flags: ['x'], device: undefined };
    await store.commit('s1', { header: changed });
    const { former: _former, device: _device, ...rest } = header;
    const expected: SessionHeader = { ...rest, ...{ flags: ['x'] }, idleTimeoutMs: 70_000, secretHash: 'new', owner };
    assertHeader(await store.read('s1'), expected);
  },

  async 'keeps all digits of a number'(store) {
    const header = {
      ...{ secretHash: 'hash', createdAt: 1_767_225_600_123.25, secretAt: 1_767_225_600_999 },
      ...{ idleTimeoutMs: 2_592_000_001, absoluteExpiresAt: 1_798_761_599_999 },
      ...{ largest: Number.MAX_SAFE_INTEGER, smallest: Number.MIN_SAFE_INTEGER, third: 1 / 3 },
    };
    const lastAccessedAt = 1_767_225_600_127;
    await store.create('s1', record({ header, lastAccessedAt, version: LARGE }));
    await store.commit('s1', { header: { owner: { name: 'ann', roles: [] } }, follows: LARGE });
    const read = await store.read('s1');
    assertHeader(read, { ...header, owner: { name: 'ann', roles: [] } });
    assert.equal(read!.lastAccessedAt, lastAccessedAt);
    assert.equal(read!.version, LARGE + 1);
    await store.touch(new Map([['s1', lastAccessedAt + 1]]));
    await expectGlance(store, 's1', { version: LARGE + 1, lastAccessedAt: lastAccessedAt + 1 });
  },

  async 'gives back an owner without roles, with all his names and roles as they were'(store) {
    const checks = HOSTILE.map(async (name, index) => {
      const owner = { name, roles: index % 2 ? [] : [name, ''] };
      await store.create(`created-${index}`, record({ header: { ...idle(60_000), owner } }));
      assertHeader(await store.read(`created-${index}`), { ...idle(60_000), owner });
      await store.create(`signed-in-${index}`, record());
      await store.commit(`signed-in-${index}`, { header: { owner } });
      assertHeader(await store.read(`signed-in-${index}`), { ...idle(60_000), owner });
    });
    await Promise.all(checks);
  },

  async 'deletes on condition only what has expired by then, to the millisecond'(store) {
    await store.create('idle', record({ header: idle(1_000) }));
    await store.create('absolute', record({ header: { ...idle(60_000), absoluteExpiresAt: NOW + 2_000 } }));
    assert.equal(await store.delete('idle', NOW + 999), false);
    assert.equal(await store.delete('absolute', NOW + 1_999), false);
    assert.equal(await store.count(), 2);
    assert.equal(await store.delete('idle', NOW + 1_000), true);
    assert.equal(await store.delete('absolute', NOW + 2_000), true);
    assert.equal(await store.delete('idle', NOW + 1_000), false);
    assert.equal(await store.delete('unknown', NOW + 1_000), false);
    assert.equal(await store.count(), 0);
    assert.deepEqual(await store.expired(NOW + 1e12, 10), []);
  },

  async 'keeps limits that no calendar has a date for'(store) {
    for (const [index, idleTimeoutMs] of [9e15, 1e19, 1e300, Number.MAX_VALUE].entries()) {
      await store.create(`created-${index}`, record({ header: idle(idleTimeoutMs) }));
      await store.create(`given-${index}`, record({ header: { ...idle(1_000), absoluteExpiresAt: idleTimeoutMs } }));
      await store.commit(`given-${index}`, { header: { idleTimeoutMs } });
      for (const sid of [`created-${index}`, `given-${index}`]) {
        await store.touch(new Map([[sid, NOW + 1]]));
        assert.equal((await store.read(sid))?.header.idleTimeoutMs, idleTimeoutMs);
        assert.equal(await store.delete(sid, NOW + 1e12), false);
      }
      await store.commit(`given-${index}`, { header: { idleTimeoutMs: 1_000 } });
    }
    assert.equal((await store.expired(NOW + 1_001, 10)).length, 4);
    assert.equal(await store.delete('given-2'), true);
    assert.equal(await store.delete('created-2'), true);
    assert.equal(await store.count(), 6);
  },

  async 'deletes on condition by the last access and the limits as they are now'(store) {
    for (const sid of ['touched', 'longer', 'endless', 'shorter', 'prolonged'])
      await store.create(sid, record({ header: idle(2_000) }));
    await store.commit('prolonged', { header: { absoluteExpiresAt: NOW + 500 } });
    assert.deepEqual(await store.expired(NOW + 500, 10), ['prolonged']);
    await store.commit('prolonged', { header: { absoluteExpiresAt: NOW + 5_000 } });
    assert.deepEqual((await store.expired(NOW + 2_000, 10)).length, 5);
    await store.touch(new Map([['touched', NOW + 1]]));
    await store.commit('longer', { header: { idleTimeoutMs: 2_001 } });
    await store.commit('endless', { header: { idleTimeoutMs: undefined } });
    await store.commit('shorter', { header: { idleTimeoutMs: 1_000 } });
    assert.equal(await store.delete('touched', NOW + 2_000), false);
    assert.equal(await store.delete('longer', NOW + 2_000), false);
    assert.equal(await store.delete('endless', NOW + 2_000), false);
    assert.equal(await store.delete('shorter', NOW + 1_000), true);
    assert.equal(await store.delete('prolonged', NOW + 1_999), false);
    assert.equal(await store.delete('prolonged', NOW + 2_000), true);
    assert.equal(await store.delete('touched', NOW + 2_001), true);
    assert.equal(await store.delete('longer', NOW + 2_001), true);
    assert.equal(await store.count(), 1);
  },

  async 'never deletes on condition what never expires'(store) {
    await store.create('s1', record({ header: { secretHash: 'x', createdAt: NOW } }));
    assert.equal(await store.delete('s1', NOW + 1e12), false);
    assert.equal(await store.delete('s1', Number.MAX_SAFE_INTEGER), false);
    assert.ok(await store.read('s1'));
    assert.equal(await store.delete('s1'), true);
  },

  async 'tells exactly one of several conditional callers that it has deleted a session'(store) {
    await store.create('s1', record({ header: idle(1_000), attributes: { a: '1' } }));
    const answers = await parallel(() => store.delete('s1', NOW + 1_000));
    assert.equal(answers.filter(Boolean).length, 1);
    assert.equal(await store.read('s1'), undefined);
  },

  async 'either deletes on condition or lets a touch save, never both'(store) {
    for (let round = 0; round < PARALLEL; round++) {
      const sid = `s${round}`;
      await store.create(sid, record({ header: idle(1_000) }));
      const calls = [() => store.delete(sid, NOW + 1_000), () => store.touch(new Map([[sid, NOW + 1]]))];
      if (round % 2) calls.reverse();
      const [a, b] = await Promise.all(calls.map(call => call()));
      const isDeleted = (round % 2 ? b : a) as boolean;
      assert.equal((await store.glance(sid))?.lastAccessedAt, isDeleted ? undefined : NOW + 1);
      if (!isDeleted) assert.deepEqual(await store.expired(NOW + 1_001, 10), [sid]);
      await store.delete(sid);
    }
  },

  async 'lists the sessions of an owner as they are created, change hands and end'(store) {
    const ann = { owner: { name: 'ann', roles: ['user'] } };
    const bob = { owner: { name: 'bob', roles: [] } };
    assert.deepEqual(await store.sidsOf('ann'), []);
    await store.create('a1', record({ header: { ...idle(60_000), ...ann } }));
    await store.create('a2', record());
    await store.create('nobody', record());
    await expectSids(store, 'ann', ['a1']);
    await store.commit('a2', { header: ann });
    await expectSids(store, 'ann', ['a1', 'a2']);
    await store.commit('a1', { header: { owner: { name: 'ann', roles: ['admin'] } } });
    await store.commit('a1', { set: bytes({ a: '1' }), header: { idleTimeoutMs: 5 } });
    await expectSids(store, 'ann', ['a1', 'a2']);
    await store.commit('a2', { header: bob });
    await expectSids(store, 'ann', ['a1']);
    await expectSids(store, 'bob', ['a2']);
    await store.commit('a2', { header: { owner: undefined } });
    await expectSids(store, 'bob', []);
    await store.delete('a1');
    await expectSids(store, 'ann', []);
    await store.create('a1', record());
    await expectSids(store, 'ann', []);
    await store.commit('a1', { header: ann, expected: new Map([['absent', 7]]) });
    await expectSids(store, 'ann', []);
    await store.create('a1', record({ header: { ...idle(60_000), ...ann } })); // exists: nothing is written
    await expectSids(store, 'ann', []);
    await store.create('a3', record({ header: { ...idle(1_000), ...ann } }));
    assert.equal(await store.delete('a3', NOW), false);
    await expectSids(store, 'ann', ['a3']);
    assert.equal(await store.delete('a3', NOW + 1_000), true);
    await expectSids(store, 'ann', []);
  },

  async 'counts the sessions without an owner as they are created, change hands and end'(store) {
    if (!store.countAnonymous) return; // optional
    const owner = { name: 'ann', roles: [] };
    const expectCount = async (count: number) => assert.equal(await store.countAnonymous!(), count);
    await expectCount(0);
    await store.create('a', record());
    await store.create('b', record({ header: { ...idle(60_000), owner } }));
    await store.create('c', record());
    await expectCount(2);
    await store.create('c', record()); // exists: nothing is written
    await expectCount(2);
    await store.commit('a', { header: { owner } });
    await expectCount(1);
    await store.commit('a', { header: { owner: { name: 'bob', roles: [] } }, set: bytes({ a: '1' }) });
    await expectCount(1);
    await store.commit('b', { header: { owner: undefined } });
    await expectCount(2);
    await store.delete('a');
    await expectCount(2);
    await store.delete('b');
    await store.delete('b');
    await expectCount(1);
    assert.equal(await store.count(), 1);
  },

  async 'lists many sessions of one owner, and none of others'(store) {
    const sids = Array.from({ length: 300 }, (_, index) => `session-${index}`);
    const headerOf = (index: number) => ({ ...idle(60_000), owner: { name: index % 3 ? 'ann' : 'bob', roles: [] } });
    await Promise.all(sids.map((sid, index) => store.create(sid, record({ header: headerOf(index) }))));
    const third = (rest: number) => sids.filter((_, index) => index % 3 === rest);
    await expectSids(store, 'ann', [...third(1), ...third(2)]);
    await Promise.all(third(1).map(sid => store.delete(sid)));
    await expectSids(store, 'ann', third(2));
    await expectSids(store, 'bob', third(0));
  },

  async 'keeps hostile owner names apart'(store) {
    for (const name of HOSTILE) assert.deepEqual(await store.sidsOf(name), []);
    const signIns = HOSTILE.map(async (name, index) => {
      await store.create(`s${index}`, record({ header: { ...idle(60_000), owner: { name, roles: [] } } }));
      await store.create(`t${index}`, record());
      await store.commit(`t${index}`, { header: { owner: { name, roles: [] } } });
    });
    await Promise.all(signIns);
    for (const [index, name] of HOSTILE.entries()) await expectSids(store, name, [`s${index}`, `t${index}`]);
    await Promise.all(HOSTILE.map((_, index) => store.delete(`s${index}`)));
    for (const [index, name] of HOSTILE.entries()) await expectSids(store, name, [`t${index}`]);
  },

  async 'lists hostile sids of an owner as they are'(store) {
    const header = { ...idle(60_000), owner: { name: 'ann', roles: [] } };
    await Promise.all(HOSTILE.map(sid => store.create(sid, record({ header }))));
    await expectSids(store, 'ann', HOSTILE);
    await Promise.all(HOSTILE.map(sid => store.delete(sid)));
    await expectSids(store, 'ann', []);
  },

  async 'lists a session under its last owner only when several claim it at once'(store) {
    for (let round = 0; round < 5; round++) {
      const sid = `s${round}`;
      await store.create(sid, record());
      await parallel(index => store.commit(sid, { header: { owner: { name: `user-${index}`, roles: [] } } }));
      const { owner } = (await store.read(sid))!.header;
      const listed = await parallel(async index => ((await store.sidsOf(`user-${index}`)).includes(sid) ? index : -1));
      assert.deepEqual(
        listed.filter(index => index >= 0).map(index => `user-${index}`),
        [owner!.name],
      );
    }
  },

  async 'lists no session that was deleted while its owner changed'(store) {
    for (let round = 0; round < PARALLEL; round++) {
      const sid = `s${round}`;
      await store.create(sid, record());
      const calls = Array.from({ length: 5 }, (_, index) =>
        store.commit(sid, { header: { owner: { name: index % 2 ? 'ann' : 'bob', roles: [] } } }),
      );
      await Promise.all([...calls, store.delete(sid)]);
      assert.deepEqual([...(await store.sidsOf('ann')), ...(await store.sidsOf('bob'))], []);
    }
  },

  async 'leaves out of a read only what it was asked to, and says of that its version and size'(store) {
    await store.create('s1', record({ attributes: { cart: 'tea', report: 'x'.repeat(900_000), none: '' } }));
    const { version } = committed(await store.commit('s1', { set: bytes({ photo: 'y'.repeat(300), theme: 'dark' }) }));
    const without = new Set(['report', 'photo', 'none', 'unknown', ...HOSTILE]);
    const read = (await store.read('s1', without))!;
    assert.equal(read.version, version);
    assert.equal(read.header.secretHash, 'hash');
    assert.equal(read.lastAccessedAt, NOW);
    assert.deepEqual([text(read, 'cart'), text(read, 'theme')], ['tea', 'dark']);
    const sizes = { cart: 3, report: 900_000, none: 0, photo: 300, theme: 4 };
    assert.deepEqual(sizesOf(read), { ...sizes });
    for (const name of read.apart?.keys() ?? []) assert.ok(without.has(name), `${name} was left out unasked`);
    assert.equal(versionIn(read, 'report'), 1);
    assert.equal(versionIn(read, 'photo'), version);
    assert.equal(await store.read('s2', without), undefined);
    // What is left out can be expected, changed and deleted all the same.
    const expected = new Map([['report', versionIn(read, 'report')!]]);
    const after = committed(await store.commit('s1', { set: bytes({ report: 'short' }), expected }));
    assert.equal((await store.commit('s1', { set: bytes({ report: 'late' }), expected })).status, 'conflict');
    await store.commit('s1', { deleted: new Set(['photo']) });
    const again = (await store.read('s1', without))!;
    assert.deepEqual(sizesOf(again), { cart: 3, report: 5, none: 0, theme: 4 });
    assert.equal(versionIn(again, 'report'), after.version);
    assert.equal(text((await store.read('s1'))!, 'report'), 'short');
  },

  async 'leaves out attributes whatever their names are'(store) {
    await store.create('s1', record());
    for (const [index, name] of HOSTILE.entries())
      await store.commit('s1', { set: new Map([[name, new Uint8Array(index)]]) });
    for (const [index, name] of HOSTILE.entries()) {
      const read = (await store.read('s1', new Set([name])))!;
      assert.equal(sizeIn(read, name), index);
      for (const other of read.apart?.keys() ?? []) assert.equal(other, name);
    }
    const read = (await store.read('s1', new Set(HOSTILE)))!;
    for (const [index, name] of HOSTILE.entries()) assert.equal(sizeIn(read, name), index);
  },

  async 'reads attributes by name, with the versions that they have'(store) {
    if (!store.readAttributes) return; // optional
    const namesOf = async (...names: string[]) => {
      const read = await store.readAttributes!('s1', new Set(names));
      return read && Object.fromEntries(Array.from(read, ([name, { value }]) => [name, Buffer.from(value).toString()]));
    };
    assert.equal(await namesOf('cart'), undefined);
    await store.create('s1', record({ attributes: { cart: 'tea', report: 'x'.repeat(900_000), none: '' } }));
    assert.deepEqual(await namesOf('cart'), { cart: 'tea' });
    assert.deepEqual(await namesOf('cart', 'none', 'unknown'), { cart: 'tea', none: '' });
    assert.deepEqual(await namesOf('unknown'), {});
    assert.deepEqual(await namesOf(), {});
    assert.equal((await namesOf('report'))!.report!.length, 900_000);
    const { version } = committed(await store.commit('s1', { set: bytes({ cart: 'milk' }) }));
    const read = (await store.readAttributes('s1', new Set(['cart', 'none'])))!;
    assert.deepEqual([read.get('cart')!.version, read.get('none')!.version], [version, 1]);
    await store.commit('s1', { deleted: new Set(['cart']) });
    assert.deepEqual(await namesOf('cart', 'none'), { none: '' });
    for (const [index, name] of HOSTILE.entries())
      await store.commit('s1', { set: new Map([[name, Buffer.from(String(index))]]) });
    for (const [index, name] of HOSTILE.entries()) assert.deepEqual(await namesOf(name), { [name]: String(index) });
    assert.equal((await store.readAttributes('s1', new Set(HOSTILE)))!.size, HOSTILE.length);
    await store.delete('s1');
    assert.equal(await namesOf('none'), undefined);
  },

  async 'reads what is left out and what is named as of one moment, while others commit'(store) {
    await store.create('s1', record({ attributes: { a: '0', b: '0' } }));
    let isOver = false;
    const writing = (async () => {
      try {
        for (let round = 0; round < 50; round++)
          await store.commit('s1', { set: bytes({ a: `${round}`, b: `${round}`.repeat(400) }) });
      } finally {
        isOver = true;
      }
    })();
    writing.catch(() => {}); // awaited below, unless a read fails before
    while (!isOver) {
      const read = (await store.read('s1', new Set(['b'])))!;
      assert.equal(versionIn(read, 'b'), read.attributes.get('a')!.version);
      const named = await store.readAttributes?.('s1', new Set(['a', 'b']));
      assert.equal(named?.get('b')?.version, named?.get('a')?.version);
      await new Promise(resolve => setImmediate(resolve));
    }
    await writing;
  },

  async 'gives a snapshot that later changes do not touch'(store) {
    await store.create('s1', record({ attributes: { a: '1' } }));
    const before = (await store.read('s1'))!;
    await store.commit('s1', { set: bytes({ a: '2', b: '2' }), header: { secretHash: 'new' } });
    await store.touch(new Map([['s1', NOW + 1]]));
    assertSame(before, record({ attributes: { a: '1' } }));
  },
};

const CASES_OF_TWO: Readonly<Record<string, (store: SessionStore, second: SessionStore) => Promise<void>>> = {
  async 'sees at once what another store on the same data has done'(store, second) {
    const owner = { name: 'ann', roles: ['user'] };
    const created = record({ header: { ...idle(1_000), owner }, attributes: { a: '1' } });
    assert.equal(await store.create('s1', created), true);
    assertSame(await second.read('s1'), created);
    await expectSids(second, 'ann', ['s1']);
    assert.deepEqual(await second.expired(NOW + 1_000, 10), ['s1']);
    assert.equal(await second.create('s1', created), false);
    const { version } = committed(await second.commit('s1', { set: bytes({ b: '2' }) }));
    await second.touch(new Map([['s1', NOW + 7]]));
    await expectGlance(store, 's1', { version, lastAccessedAt: NOW + 7 });
    assert.equal(text((await store.read('s1'))!, 'b'), '2');
    assert.equal(await store.delete('s1', NOW + 1_000), false);
    assert.equal(await store.delete('s1'), true);
    assert.equal((await second.commit('s1', { set: bytes({ a: '3' }) })).status, 'gone');
    assert.equal(await second.glance('s1'), undefined);
    assert.equal(await second.delete('s1'), false);
    await expectSids(second, 'ann', []);
    assert.equal(await second.count(), 0);
  },

  async 'has one winner among the callers of two stores'(store, second) {
    const either = (index: number) => (index % 2 ? store : second);
    const created = await parallel(index => either(index).create('s1', record({ header: idle(1_000) })));
    assert.equal(created.filter(Boolean).length, 1);
    const expected = new Map([['n', 0]]);
    const swapped = await parallel(index => either(index).commit('s1', { set: bytes({ n: `${index}` }), expected }));
    assert.equal(swapped.filter(({ status }) => status === 'committed').length, 1);
    const commits = await parallel(index => either(index).commit('s1', { set: bytes({ [`k${index}`]: 'x' }) }));
    assert.equal(new Set(commits.map(commit => committed(commit).version)).size, PARALLEL);
    assert.equal((await store.read('s1'))!.attributes.size, PARALLEL + 1);
    const deleted = await parallel(index => either(index).delete('s1', index % 4 < 2 ? NOW + 1_000 : undefined));
    assert.equal(deleted.filter(Boolean).length, 1);
  },

  async 'tells a watcher within a second what another store commits and deletes'(store, second) {
    if (!store.watch) return; // optional
    const told: string[] = [];
    const feed = await store.watch(sid => told.push(sid));
    try {
      assert.equal(feed.isCurrent, true);
      assert.equal(typeof feed.gaps, 'number');
      for (const sid of ['s1', ...HOSTILE]) {
        await second.create(sid, record());
        told.length = 0;
        await second.commit(sid, { set: bytes({ a: '1' }) });
        await within(1_000, () => told.includes(sid), 'a commit was not told');
        told.length = 0;
        await second.commit(sid, { header: { secretHash: 'other' } });
        await within(1_000, () => told.includes(sid), 'a commit of the header was not told');
        told.length = 0;
        await second.delete(sid);
        await within(1_000, () => told.includes(sid), 'a delete was not told');
      }
      await second.create('expiring', record({ header: idle(1_000) }));
      told.length = 0;
      assert.equal(await second.delete('expiring', NOW + 1_000), true);
      await within(1_000, () => told.includes('expiring'), 'a conditional delete was not told');
      assert.equal(feed.isCurrent, true);
    } finally {
      await feed.close();
    }
  },

  async 'tells several watchers, and one that is closed nothing more'(store, second) {
    if (!store.watch) return; // optional
    const told: string[] = [];
    const toldAfterClose: string[] = [];
    const closed = await store.watch(sid => toldAfterClose.push(sid));
    const feed = await store.watch(sid => told.push(sid));
    try {
      await second.create('s1', record());
      await second.commit('s1', { set: bytes({ a: '1' }) });
      await within(1_000, () => told.includes('s1') && toldAfterClose.includes('s1'), 'a commit was not told to both');
      await closed.close();
      toldAfterClose.length = 0;
      await second.delete('s1');
      await second.create('s2', record());
      told.length = 0;
      await second.commit('s2', { set: bytes({ a: '1' }) });
      await within(1_000, () => told.includes('s2'), 'the other watcher was not told');
      assert.deepEqual(toldAfterClose, []);
    } finally {
      await feed.close();
    }
  },
};

async function expectGlance(store: SessionStore, sid: string, expected: SessionGlance): Promise<void> {
  const glance = await store.glance(sid);
  assert.ok(glance);
  assert.deepEqual({ version: glance.version, lastAccessedAt: glance.lastAccessedAt }, expected);
}

async function expectSids(store: SessionStore, owner: string, expected: readonly string[]): Promise<void> {
  assert.deepEqual((await store.sidsOf(owner)).sort(), [...expected].sort());
}

/** Compared as JSON, in which a field that is undefined is absent. */
function assertHeader(actual: SessionRecord | undefined, expected: SessionHeader): void {
  assert.ok(actual);
  assert.deepEqual(JSON.parse(JSON.stringify(actual.header)), JSON.parse(JSON.stringify(expected)));
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

/** Of an attribute that was read, with its value or without. */
function sizeIn({ attributes, apart }: SessionRecord, name: string): number | undefined {
  assert.ok(!attributes.has(name) || !apart?.has(name), `${JSON.stringify(name)} is there and left out`);
  return apart?.get(name)?.bytes ?? attributes.get(name)?.value.length;
}

function versionIn({ attributes, apart }: SessionRecord, name: string): number | undefined {
  return (apart?.get(name) ?? attributes.get(name))?.version;
}

function sizesOf(read: SessionRecord): Record<string, number | undefined> {
  const names = [...read.attributes.keys(), ...(read.apart?.keys() ?? [])];
  return Object.fromEntries(names.map(name => [name, sizeIn(read, name)]));
}

function committed(result: CommitResult): CommitResult & { status: 'committed' } {
  assert.ok(result.status === 'committed', `the commit was ${result.status}`);
  return result;
}

function lineageOf(version: number): number {
  return Math.floor(version / 256);
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
