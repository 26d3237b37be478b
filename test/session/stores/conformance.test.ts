import { expect, test } from 'vitest';
import type { SessionChanges, SessionHeader, SessionRecord, SessionStore } from '../../../src/session/store.ts';
import { MemoryStore } from '../../../src/session/stores/memory.ts';
import { storeConformance } from '../../../src/testing/store-conformance.ts';

/** A suite is worth what it finds: each of these stores breaks the contract in one way, and the named case says so. */
const BROKEN: Readonly<Record<string, () => SessionStore>> = {
  'creates only what is absent, and for one caller': () =>
    new (class extends MemoryStore {
      override async create(sid: string, record: SessionRecord) {
        if (await super.create(sid, record)) return true;
        await this.delete(sid);
        return super.create(sid, record);
      }
    })(),
  'shows version and last access at a glance': () =>
    new (class extends MemoryStore {
      override async glance(sid: string) {
        const record = await this.read(sid);
        return record && { version: record.version, lastAccessedAt: record.header.createdAt };
      }
    })(),
  'keeps the fraction of a last access, which says whose it is': () =>
    new (class extends MemoryStore {
      override touch(accesses: ReadonlyMap<string, number>) {
        return super.touch(new Map(Array.from(accesses, ([sid, at]) => [sid, Math.round(at)])));
      }
    })(),
  'keeps header fields that it does not know': () =>
    changingHeaders(({ secretHash, createdAt, owner, idleTimeoutMs, absoluteExpiresAt }) => ({
      ...{ secretHash, createdAt, owner, idleTimeoutMs, absoluteExpiresAt },
    })),
  'keeps all digits of a number': () =>
    changingHeaders(header =>
      JSON.parse(JSON.stringify(header, (_, value) => (typeof value === 'number' ? +value.toPrecision(14) : value))),
    ),
  'gives back an owner without roles, with all his names and roles as they were': () =>
    changingHeaders(header =>
      JSON.parse(JSON.stringify(header, (_, value) => (Array.isArray(value) && !value.length ? {} : value))),
    ),
  'deletes on condition only what has expired by then, to the millisecond': () =>
    new (class extends MemoryStore {
      override delete(sid: string, expiredBy = Number.POSITIVE_INFINITY) {
        return super.delete(sid, expiredBy + 1);
      }
    })(),
  'deletes on condition by the last access and the limits as they are now': () =>
    new (class extends MemoryStore {
      readonly #due = new Set<string>();
      override async expired(now: number, limit: number) {
        const sids = await super.expired(now, limit);
        for (const sid of sids) this.#due.add(sid);
        return sids;
      }
      override delete(sid: string, expiredBy?: number) {
        return super.delete(sid, this.#due.has(sid) ? undefined : expiredBy);
      }
    })(),
  'never deletes on condition what never expires': () =>
    new (class extends MemoryStore {
      override delete(sid: string) {
        return super.delete(sid);
      }
    })(),
  'tells exactly one of several conditional callers that it has deleted a session': () =>
    new (class extends MemoryStore {
      override async delete(sid: string, expiredBy?: number) {
        const isThere = (await this.read(sid)) !== undefined;
        await super.delete(sid, expiredBy);
        return isThere;
      }
    })(),
  'lists the sessions of an owner as they are created, change hands and end': () =>
    new (class extends MemoryStore {
      readonly #owners = new Map<string, string>();
      override create(sid: string, record: SessionRecord) {
        if (record.header.owner) this.#owners.set(sid, record.header.owner.name);
        return super.create(sid, record);
      }
      override async sidsOf(owner: string) {
        return [...this.#owners].filter(([, name]) => name === owner).map(([sid]) => sid);
      }
    })(),
  'counts the sessions without an owner as they are created, change hands and end': () =>
    new (class extends MemoryStore {
      override countAnonymous() {
        return this.count();
      }
    })(),
  'keeps hostile owner names apart': () =>
    new (class extends MemoryStore {
      override async sidsOf(owner: string) {
        return super.sidsOf(Buffer.from(owner).toString());
      }
    })(),
  'gives each commit a version of its own, and says which one it has replaced': counting(({ version }) => version),
  'goes on counting for a caller that follows itself, and begins a new lineage for any other': counting(
    ({ version }) => version + 1,
  ),
  'gives what is written no version that was lost when the store was set back': counting(({ version }) => version + 1),
  'leaves out of a read only what it was asked to, and says of that its version and size': () =>
    new (class extends MemoryStore {
      override async read(sid: string, without?: ReadonlySet<string>) {
        const record = await super.read(sid, without);
        if (!record?.apart) return record;
        const { version } = record;
        const apart = new Map(Array.from(record.apart, ([name, { bytes }]) => [name, { version, bytes }]));
        return { ...record, apart };
      }
    })(),
  'leaves out attributes whatever their names are': () =>
    new (class extends MemoryStore {
      override read(sid: string, without?: ReadonlySet<string>) {
        return super.read(sid, without && new Set(Array.from(without, name => Buffer.from(name).toString())));
      }
    })(),
  'reads attributes by name, with the versions that they have': () =>
    new (class extends MemoryStore {
      override async readAttributes(sid: string, names: ReadonlySet<string>) {
        return (await super.readAttributes(sid, names)) ?? new Map();
      }
    })(),
  'reads what is left out and what is named as of one moment, while others commit': () =>
    new (class extends MemoryStore {
      override async read(sid: string, without?: ReadonlySet<string>) {
        const first = await super.read(sid, without);
        await new Promise(resolve => setImmediate(resolve));
        const second = first && (await super.read(sid, without));
        return second?.apart ? { ...first!, apart: second.apart } : second;
      }
    })(),
  'commits nothing to a session that is gone and does not bring it back': () =>
    new (class extends MemoryStore {
      override async commit(sid: string, changes: SessionChanges) {
        const attributes = new Map();
        await this.create(sid, { header: changes.header as SessionHeader, version: 1, lastAccessedAt: 0, attributes });
        return super.commit(sid, changes);
      }
    })(),
};

/** Counts its commits from the one before, whoever makes them. */
function counting(versionOf: (record: SessionRecord, changes: SessionChanges) => number): () => SessionStore {
  return () =>
    new (class extends MemoryStore {
      override async commit(sid: string, changes: SessionChanges) {
        const before = await this.read(sid);
        const result = await super.commit(sid, changes);
        if (!before || result.status !== 'committed') return result;
        const version = versionOf(before, changes);
        const attributes = new Map((await this.read(sid))!.attributes);
        for (const [name, value] of changes.set ?? []) attributes.set(name, { value, version });
        const after = { ...(await this.read(sid))!, version, attributes };
        await this.delete(sid);
        await this.create(sid, after);
        return { status: 'committed', version, previous: before.version } as const;
      }
    })();
}

const BROKEN_FOR_TWO: Readonly<Record<string, () => SessionStore>> = {
  'sees at once what another store on the same data has done': () => new MemoryStore(), // not the same data
  'tells a watcher within a second what another store commits and deletes': () => watched(sid => sid !== 's1'),
  'tells several watchers, and one that is closed nothing more': () => watched(() => true),
};

function changingHeaders(change: (header: SessionHeader) => SessionHeader): SessionStore {
  return new (class extends MemoryStore {
    override async read(sid: string) {
      const record = await super.read(sid);
      return record && { ...record, header: change(record.header) };
    }
  })();
}

/** Tells what `isTold`, and does not stop. */
function watched(isTold: (sid: string) => boolean): SessionStore {
  return new (class extends MemoryStore {
    readonly #watchers: ((sid: string) => void)[] = [];
    override commit(sid: string, changes: SessionChanges) {
      this.#tell(sid);
      return super.commit(sid, changes);
    }
    override delete(sid: string, expiredBy?: number) {
      this.#tell(sid);
      return super.delete(sid, expiredBy);
    }
    async watch(onChange: (sid: string) => void) {
      this.#watchers.push(onChange);
      return { isCurrent: true, gaps: 0, close: async () => {} };
    }
    #tell(sid: string) {
      if (isTold(sid)) for (const watcher of this.#watchers) watcher(sid);
    }
  })();
}

function casesFor(open: () => SessionStore, openSecond: (first: SessionStore) => SessionStore) {
  const cases = new Map<string, () => Promise<void>>();
  const runner = {
    describe: (_: string, body: () => void) => body(),
    test: (title: string, body: () => Promise<void>) => cases.set(title, body),
  };
  storeConformance('broken', open, runner, { openSecond });
  return cases;
}

test.each(Object.entries(BROKEN))('the suite notices a store that breaks "%s"', async (title, open) => {
  await expect(casesFor(open, first => first).get(title)!()).rejects.toThrow();
});

test.each(Object.entries(BROKEN_FOR_TWO))('the suite notices stores of which one breaks "%s"', async (title, open) => {
  const isOther = title.startsWith('sees');
  await expect(casesFor(open, first => (isOther ? open() : first)).get(title)!()).rejects.toThrow();
});

test('the suite comes to an end also with a store whose commits fail', async () => {
  const open = () =>
    new (class extends MemoryStore {
      override async commit(): Promise<never> {
        throw new Error('read-only');
      }
    })();
  const title = 'reads what is left out and what is named as of one moment, while others commit';
  await expect(casesFor(open, first => first).get(title)!()).rejects.toThrow('read-only');
});
