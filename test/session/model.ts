import assert from 'node:assert/strict';
import type { SessionManager } from '../../src/session/manager.ts';
import type { SessionBinding } from '../../src/session/request/binding.ts';
import type { Session } from '../../src/session/session.ts';

type Data = Session<Record<string, unknown>>;

/** What a client of the model knows: the cookie that its last answer gave it. */
interface Client {
  cookie: string | undefined;
}

/** A session as it must be. */
interface Expected {
  readonly attributes: Map<string, number>;
  owner: string | undefined;
  /** The only cookie that opens it. */
  cookie: string;
}

/** A request that is on its way: let in, and not committed yet. */
interface Pending {
  readonly client: Client;
  readonly binding: SessionBinding;
  readonly session: Data;
  readonly sid: string;
  readonly changes: Map<string, number | undefined>;
  /** What the request itself must read: what was there when it began, its own changes, and those of its updates. */
  readonly view: Map<string, number>;
  isNew: boolean;
  /** The one with which it was let in, or that it was given since. */
  cookie: string | undefined;
}

const NAMES = ['a', 'b', 'c', 'd'];

/**
 * Runs requests of four clients, several of them on their way at once, on managers that share a store in strict
 * coherence and write at the end of each request, and checks every answer against a model. Throws at the first
 * difference, with the seed and the steps that led to it.
 *
 * @param openManagers Makes the managers, with the cookie's name `sid`; they are closed by the caller.
 * @returns how often each kind of step was taken, so that a test can see that all were.
 */
export async function runModel(
  openManagers: () => Promise<readonly SessionManager[]> | readonly SessionManager[],
  seed: number,
  steps: number,
): Promise<Record<string, number>> {
  const managers = await openManagers();
  const model = new Model(managers, seed);
  await model.begin();
  for (let step = 0; step < steps; step++) {
    try {
      await model.step();
    } catch (error) {
      throw new Error(`seed ${seed}, step ${step}, after:\n${model.trail.slice(-25).join('\n')}`, { cause: error });
    }
  }
  await model.finish();
  return model.counts;
}

class Model {
  readonly trail: string[] = [];
  readonly counts: Record<string, number> = {};
  readonly #managers: readonly SessionManager[];
  readonly #clients: Client[] = Array.from({ length: 4 }, () => ({ cookie: undefined }));
  readonly #sessions = new Map<string, Expected>();
  /** Cookies that were good once. */
  readonly #former: string[] = [];
  readonly #pending: Pending[] = [];
  /** Nobody else's: the store may hold other sessions, which do not change meanwhile. */
  readonly #users: readonly string[];
  #othersCount = 0;
  #seed: number;
  #value = 0;

  constructor(managers: readonly SessionManager[], seed: number) {
    this.#managers = managers;
    this.#seed = seed;
    this.#users = [`ann ${seed}`, `bob ${seed}`];
  }

  async begin(): Promise<void> {
    this.#othersCount = await this.#managers[0]!.count();
  }

  async step(): Promise<void> {
    const kinds: (() => Promise<void>)[] = [() => this.#begin(), () => this.#replay()];
    if (this.#pending.length > 0) {
      const one = this.#pick(this.#pending);
      kinds.push(
        () => this.#read(one),
        () => this.#set(one),
        () => this.#set(one),
        () => this.#update(one),
        () => this.#renew(one),
        () => this.#invalidate(one),
        () => this.#commit(one),
        () => this.#commit(one),
      );
    }
    // Not too many at once, or nothing is ever committed.
    await (this.#pending.length >= 5 ? this.#commit(this.#pick(this.#pending)) : this.#pick(kinds)());
  }

  async finish(): Promise<void> {
    while (this.#pending[0]) await this.#commit(this.#pending[0]);
    for (const manager of this.#managers) {
      for (const [sid, expected] of this.#sessions) await this.#check(manager, sid, expected);
      assert.equal((await manager.count()) - this.#othersCount, this.#sessions.size);
      assert.equal(manager.statistics().activeNow, 0);
      const owned = this.#users.map(async name => (await manager.ofUser(name)).map(({ sid }) => sid).sort());
      const expected = this.#users.map(name =>
        [...this.#sessions]
          .filter(([, { owner }]) => owner === name)
          .map(([sid]) => sid)
          .sort(),
      );
      assert.deepEqual(await Promise.all(owned), expected);
    }
  }

  async #check(manager: SessionManager, sid: string, expected: Expected): Promise<void> {
    const binding = bind(manager, expected.cookie);
    const session = (await binding.get()) as Data | undefined;
    assert.equal(session?.id, sid);
    assert.equal(session.owner?.name, expected.owner);
    assert.deepEqual(valuesOf(session), sorted(expected.attributes));
    binding.release();
  }

  /** A client sends its cookie: it must get its session as it is now, or a new one when it is over. */
  async #begin(): Promise<void> {
    const client = this.#pick(this.#clients);
    const manager = this.#pickManager('begin', client);
    const binding = bind(manager, client.cookie);
    const session = (await binding.open()) as Data;
    const expected = this.#sessions.get(session.id);
    const known = [...this.#sessions].find(([, { cookie }]) => cookie === client.cookie);
    assert.equal(session.id === known?.[0], known !== undefined, 'the session that the cookie opens');
    assert.deepEqual(valuesOf(session), sorted(expected?.attributes ?? new Map()), 'what was committed before');
    assert.equal(session.owner?.name, expected?.owner);
    this.#pending.push({
      client,
      binding,
      session,
      sid: session.id,
      changes: new Map(),
      view: new Map(expected?.attributes),
      isNew: expected === undefined,
      cookie: expected?.cookie,
    });
  }

  /** A cookie that is good no longer opens nothing. */
  async #replay(): Promise<void> {
    if (this.#former.length === 0) return;
    const manager = this.#pickManager('replay');
    const binding = bind(manager, this.#pick(this.#former));
    assert.equal(await binding.get(), undefined);
    await binding.commit();
    assert.deepEqual(binding.responseHeaders(), []);
    binding.release();
  }

  async #read({ session, view, sid }: Pending): Promise<void> {
    this.#note('read', sid);
    if (isOver(session)) return;
    assert.deepEqual(valuesOf(session), sorted(view));
  }

  async #set({ session, view, changes, sid }: Pending): Promise<void> {
    const name = this.#pick(NAMES);
    const value = this.#random() < 0.25 ? undefined : ++this.#value;
    this.#note('set', sid, name, value);
    if (isOver(session)) return;
    const had = view.has(name);
    session.set(name, value);
    if (value !== undefined) view.set(name, value);
    else view.delete(name);
    if (value !== undefined || had) changes.set(name, value);
  }

  async #update(pending: Pending): Promise<void> {
    const { session, view, sid } = pending;
    const name = this.#pick(NAMES);
    this.#note('update', sid, name);
    if (isOver(session)) return;
    // What was set under this name, and a new session, is written first, with all that was changed.
    const isCommitted = pending.isNew || pending.changes.has(name);
    const seen: unknown[] = [];
    const next = ++this.#value;
    const update = session.update(name, current => {
      seen.push(current);
      return next;
    });
    if (!pending.isNew && !this.#sessions.has(sid)) {
      await assert.rejects(update, { code: 'ERR_SESSION_ENDED' });
      return;
    }
    assert.equal(await update, next);
    if (isCommitted) this.#apply(pending);
    const { attributes } = this.#sessions.get(sid)!;
    assert.deepEqual(seen, [attributes.get(name)]);
    attributes.set(name, next);
    view.set(name, next);
  }

  async #renew(pending: Pending): Promise<void> {
    const { session, binding, client, sid } = pending;
    const name = this.#pick(this.#users);
    this.#note('renew', sid, name);
    if (isOver(session)) return;
    const owner = session.owner?.name;
    const renewal = session.renew({ owner: { name, roles: [] } });
    const expected = this.#sessions.get(sid);
    if (owner !== undefined && owner !== name) await assert.rejects(renewal, { code: 'ERR_SESSION_UNAUTHORIZED' });
    else if (pending.isNew) await renewal;
    else if (!expected) await assert.rejects(renewal, { code: 'ERR_SESSION_ENDED' });
    else if (pending.cookie !== expected.cookie) {
      await assert.rejects(renewal, { code: 'ERR_SESSION_SUPERSEDED' }); // and sees nothing of what it has become
    } else {
      await renewal;
      this.#former.push(expected.cookie);
      this.#apply(pending);
      expected.owner = name;
      expected.cookie = cookieOf(binding)!;
      pending.cookie = expected.cookie;
      client.cookie = expected.cookie;
    }
  }

  async #invalidate(pending: Pending): Promise<void> {
    const { session, sid } = pending;
    if (this.#random() < 0.5) return;
    this.#note('invalidate', sid);
    if (isOver(session)) return;
    await session.invalidate();
    this.#forget(sid);
    pending.changes.clear(); // it has ended by its own wish
    pending.isNew = false;
    assert.ok(isOver(session));
  }

  async #commit(pending: Pending): Promise<void> {
    const { binding, client, sid } = pending;
    this.#note('commit', sid);
    this.#pending.splice(this.#pending.indexOf(pending), 1);
    const isGone = !pending.isNew && !this.#sessions.has(sid);
    if (isGone && pending.changes.size > 0) await assert.rejects(binding.commit(), { code: 'ERR_SESSION_ENDED' });
    else {
      await binding.commit();
      if (!isGone) this.#apply(pending);
    }
    const cookie = cookieOf(binding);
    // An answer that comes late tells the client what was true for its request: the model's clients keep the latest
    // good one.
    if (cookie === 'sid=') client.cookie = isGood(this.#sessions, client.cookie) ? client.cookie : undefined;
    binding.release();
  }

  /** The request's changes are in the store. */
  #apply(pending: Pending): void {
    const { sid, changes, binding, client, session } = pending;
    let expected = this.#sessions.get(sid);
    if (!expected) {
      expected = { attributes: new Map(), owner: session.owner?.name, cookie: cookieOf(binding)! };
      this.#sessions.set(sid, expected);
      if (!isGood(this.#sessions, client.cookie)) client.cookie = expected.cookie;
      pending.isNew = false;
      pending.cookie = expected.cookie;
    }
    for (const [name, value] of changes) {
      if (value === undefined) expected.attributes.delete(name);
      else expected.attributes.set(name, value);
    }
    changes.clear();
  }

  #forget(sid: string): void {
    const expected = this.#sessions.get(sid);
    if (expected) this.#former.push(expected.cookie);
    this.#sessions.delete(sid);
  }

  #pickManager(kind: string, client?: Client): SessionManager {
    const index = Math.floor(this.#random() * this.#managers.length);
    this.#note(kind, `on ${index}`, client ? `client ${this.#clients.indexOf(client)}` : '');
    return this.#managers[index]!;
  }

  #note(kind: string, ...facts: unknown[]): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    this.trail.push([kind, ...facts.map(fact => String(fact).slice(0, 8))].join(' '));
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)]!;
  }

  /** Mulberry32: the same seed makes the same requests. */
  #random(): number {
    this.#seed = (this.#seed + 0x6d2b79f5) | 0;
    let bits = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  }
}

function bind(manager: SessionManager, cookieHeader: string | undefined): SessionBinding {
  return manager.bind({ cookieHeader, isSecure: false, isDocumentNavigation: false });
}

function cookieOf(binding: SessionBinding): string | undefined {
  return binding.responseHeaders()[0]?.value.split(';')[0];
}

function isGood(sessions: ReadonlyMap<string, Expected>, cookie: string | undefined): boolean {
  for (const expected of sessions.values()) if (expected.cookie === cookie) return true;
  return false;
}

function isOver(session: Data): boolean {
  try {
    session.keys();
    return false;
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'ERR_SESSION_ENDED');
    return true;
  }
}

const sorted = (values: ReadonlyMap<string, number>) => [...values].sort(([a], [b]) => (a < b ? -1 : 1));

function valuesOf(session: Data): [string, unknown][] {
  return session
    .keys()
    .sort()
    .map(name => [name, session.get(name)]);
}
