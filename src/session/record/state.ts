import { checkAttributeName } from '../../base/attribute-name.ts';
import type { Awaitable } from '../../base/awaitable.ts';
import { Backoff } from '../../base/backoff.ts';
import type { Clock } from '../../base/clock.ts';
import { HoldfastError, isHoldfastError } from '../../base/errors.ts';
import { isReplaced } from '../identity/secret-standing.ts';
import { isNoRoom } from '../room/cap.ts';
import type {
  CommitResult,
  FormerSecret,
  SessionChanges,
  SessionHeader,
  SessionRecord,
  SessionStore,
  StoredAttribute,
} from '../store.ts';
import { decodeValue } from './decoder.ts';
import { encodeValue } from './encoder.ts';
import { LoadedAttribute, notLoaded } from './loaded-attribute.ts';
import { type Committed, NO_VERSION, type ReadValue, Snapshot } from './snapshot.ts';
import { firstVersion, isLater } from './version.ts';
import type { ConflictPolicy, WriteContents } from './write-policy.ts';

/** What the states of one manager share. */
export interface SessionStateRules {
  readonly store: Required<Pick<SessionStore, 'read' | 'readAttributes' | 'commit' | 'delete'>>;
  /** Attributes that are not read with the session. Undefined: there are none. */
  readonly apart: ReadonlySet<string> | undefined;
  readonly creations: Pick<SessionStore, 'create'>;
  readonly accesses: { latest(sid: string, storedAt: number): number };
  /** Runs updates of one session one after the other in this process: only other processes are left to conflict with. */
  readonly updates: { run<T>(sid: string, task: () => Promise<T>): Promise<T> };
  /** By which changes that have met others wait for another try. */
  readonly clock: Clock;
  /** For how long they try. */
  readonly storeTimeoutMs: number;
  readonly maxAttributeBytes: number;
  readonly maxSessionBytes: number;
  readonly contents: WriteContents;
  readonly conflicts: ConflictPolicy;
  /**
   * Counts commits and updates that met somebody else's change of the same attribute, reads of values whose type this
   * process does not know, and sessions and changes that found no room.
   */
  readonly meters: { conflicts: number; unknownTypes: number; noRoom: number; noRoomForChanges: number };
  readonly sizes: { note(sid: string, name: string, attributeBytes: number, sessionBytes: number): void };
  readonly observer: SessionStateObserver;
}

/** Learns what becomes of the states of one manager. */
export interface SessionStateObserver {
  /** The store has taken a new session. */
  onCreated(state: SessionState, snapshot: Snapshot): void;
  /** After each commit of a state; `before` is what it changed. */
  onCommitted(state: SessionState, committed: Committed, before: Snapshot): void;
  /** It has read the whole session again by itself, and taken that over. */
  onReloaded(state: SessionState): void;
  /** It has read that a login has replaced the secret, and taken nothing of what that session has become. */
  onSuperseded(state: SessionState, found: FoundSession): void;
  /** Once, when it is known that the session is over. */
  onEnded(state: SessionState): void;
}

/** What the store was found to have. */
export interface FoundSession {
  readonly snapshot: Snapshot;
  readonly lastAccessedAt: number;
  /** As for `reload`. */
  readonly seen: number;
}

export interface SessionStateFacts {
  readonly sid: string;
  readonly snapshot: Snapshot;
  readonly lastAccessedAt: number;
  /** False for a session that the first commit will create. */
  readonly isStored: boolean;
  /**
   * For a session that several requests may create, asked once it is in the store: false when it was there before and
   * is over, so that it must not come back.
   */
  readonly isFirstLife?: (() => Promise<boolean>) | undefined;
  /** For a session that is not kept, whatever is done with it. Default false. */
  readonly isDetached?: boolean;
  /** Its holder was not let in by a secret: a login meanwhile hides nothing from it. Default false. */
  readonly isForAnySecret?: boolean;
}

type NewSecret = Partial<SessionHeader> & { readonly secretHash: string };

interface SecretChange {
  readonly header: NewSecret;
  /** The hash of the secret it replaces. */
  readonly expected: string;
}

type Values = ReadonlyMap<string, Uint8Array | undefined>;
type Basis = ReadonlyMap<string, KnownAttribute | undefined>;

interface KnownAttribute {
  readonly version: number;
  /** Undefined: it lies apart, and was not loaded. */
  readonly value: Uint8Array | undefined;
}

/** What one commit tries to write. */
interface Attempt {
  /** Changed by merging, when it met a conflict. */
  readonly attributes: Values;
  readonly header: Partial<SessionHeader> | undefined;
  readonly basis: Basis;
  readonly expectedSecretHash: string | undefined;
  /** What it is made to. */
  readonly before: Snapshot;
  /** As they were: what to take back when it fails. */
  readonly given: ReadonlyMap<string, ReadValue>;
  readonly changed: Values;
  readonly changedHeader: Partial<SessionHeader> | undefined;
}

/** Stands for a map that nothing was put into yet: most requests change little, and many nothing. */
const NOTHING: ReadonlyMap<string, never> = new Map<string, never>();

/**
 * One session's data as its holders see it: what the store holds, and over it what was changed here and is not
 * committed yet.
 *
 * Commits of one state run one at a time and in order; changes made meanwhile go with the next one.
 */
export class SessionState {
  lastAccessedAt: number;
  #sid: string;
  readonly #rules: SessionStateRules;
  #base: Snapshot;
  /** The version that the base has, or had before a commit that it does not know was made in between. */
  #latest: number;
  #commits = 0;
  #isFirstLife: (() => Promise<boolean>) | undefined;
  #isStored: boolean;
  #isDetached: boolean;
  readonly #isForAnySecret: boolean;
  #isEnded = false;
  #hasLost = false;
  /** It has been counted that there is no room for it; until there is. */
  #lacksRoom = false;

  #changed: Values = NOTHING;
  #changedHeader: Partial<SessionHeader> | undefined;
  /** What the commit on its way writes: still over the base, under `#changed`. */
  #inFlight: Values = NOTHING;
  #inFlightHeader: Partial<SessionHeader> | undefined;
  /**
   * What each changed attribute was when it was first changed: what the conflict policy judges by. Empty under
   * `last-wins`, which does not.
   */
  #basis: Basis = NOTHING;
  /** What these changes add to the bytes of this base. */
  #growth: { readonly base: Snapshot; readonly changed: Values; readonly bytes: number } | undefined;
  /**
   * What holders have loaded, set or deleted of what lies apart; undefined: there was none. It may be of before a commit
   * that the base knows: what was loaded stays until it is loaded again.
   */
  #loaded: Map<string, LoadedAttribute | undefined> | undefined;
  /** Values decoded from what is changed here. */
  #decoded: ReadonlyMap<string, unknown> = NOTHING;
  /**
   * Attributes that were read, with the value where the reader has one of its own; for the contents `get-and-set` and
   * `all`.
   */
  #given: ReadonlyMap<string, ReadValue> = NOTHING;
  /** The last commit that was asked for, while one is under way: the next one waits for it. */
  #last: Promise<void> | undefined;
  /** How many were asked for and are not done. */
  #underWay = 0;
  /** One that has not begun yet, and will write all that is changed until then. */
  #next: Promise<void> | undefined;

  constructor(rules: SessionStateRules, facts: SessionStateFacts) {
    const { sid, snapshot, lastAccessedAt, isStored, isFirstLife } = facts;
    this.#rules = rules;
    this.#isDetached = facts.isDetached ?? false;
    this.#isForAnySecret = facts.isForAnySecret ?? false;
    this.#sid = sid;
    this.lastAccessedAt = lastAccessedAt;
    this.#base = snapshot;
    this.#latest = snapshot.version;
    this.#isStored = isStored;
    this.#isFirstLife = isFirstLife;
  }

  get sid(): string {
    return this.#sid;
  }

  /** With what is changed and not committed yet. */
  get header(): SessionHeader {
    if (!this.#inFlightHeader && !this.#changedHeader) return this.#base.header;
    return { ...this.#base.header, ...this.#inFlightHeader, ...this.#changedHeader };
  }

  /** As `header.owner?.name`, without an object made for it. */
  get ownerName(): string | undefined {
    return (this.#changedHeader?.owner ?? this.#inFlightHeader?.owner ?? this.#base.header.owner)?.name;
  }

  /** What is committed, as far as it is known here. */
  get snapshot(): Snapshot {
    return this.#base;
  }

  /** 0: something was committed that is not known here. */
  get version(): number {
    return this.#base.version;
  }

  /** How many commits of this process it has taken over. */
  get commits(): number {
    return this.#commits;
  }

  /** Of what is committed: names and values. */
  get bytes(): number {
    return this.#base.bytes;
  }

  /** Of one attribute. */
  get maxAttributeBytes(): number {
    return this.#rules.maxAttributeBytes;
  }

  get isStored(): boolean {
    return this.#isStored;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** True when nothing of it is ever stored. */
  get isDetached(): boolean {
    return this.#isDetached;
  }

  /** True when other requests may make the same session. */
  get isDerived(): boolean {
    return this.#isFirstLife !== undefined;
  }

  /** It has ended with changes that are not in the store. */
  get hasLost(): boolean {
    return this.#hasLost;
  }

  /** True when a commit would write something. */
  get isDirty(): boolean {
    if (this.#isEnded || this.#isDetached) return false;
    return !this.#isStored || this.#changed.size > 0 || this.#changedHeader !== undefined || this.#given.size > 0;
  }

  /** Not with the others that derive the same session, of which one has signed in, but under a name of its own. */
  beginApart(sid: string): void {
    this.#sid = sid;
    this.#isFirstLife = undefined;
  }

  /** A new session is not kept after all; what is on its way to the store is taken back. It can still be used. */
  detach(): void {
    this.#isDetached = true;
  }

  /** From now on nothing is written. */
  markEnded(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#hasLost = this.#changed.size > 0 || this.#changedHeader !== undefined;
    this.#forgetChanges();
    this.#loaded = undefined;
    this.#rules.observer.onEnded(this);
  }

  /** True for an attribute that is not read with the session. */
  isApart(name: string): boolean {
    return this.#rules.apart?.has(name) === true;
  }

  /** True when others have changed what was loaded here: `reloadStale`. */
  get isStale(): boolean {
    return this.#loaded !== undefined && this.#staleNames().length > 0;
  }

  /**
   * Fetches those of these attributes that lie apart and are not here. Afterwards they are of the same moment as all
   * others: where somebody has changed one since, the whole session is read again.
   *
   * @throws {HoldfastError} ERR_SESSION_ENDED; ERR_SESSION_STORE_UNAVAILABLE; ERR_SESSION_CONFLICT when others have
   * changed one at every try; ERR_SESSION_SUPERSEDED when a login has replaced the secret, and nothing is taken.
   */
  async load(names: Iterable<string>): Promise<void> {
    let missing = this.#missing(names);
    for (const name of names) if (this.isApart(name) && !this.#base.has(name)) this.#keep(name, undefined);
    if (missing.size === 0) return;
    const { store } = this.#rules;
    const backoff = this.#backoff();
    do {
      const found = await store.readAttributes(this.sid, missing);
      if (this.#isEnded) throw sessionEnded();
      if (!found) throw this.#gone();
      this.#keepCurrent(missing, found);
      missing = this.#missing(missing);
      if (missing.size === 0) return;
      const seen = this.#commits;
      const { header } = this.#base;
      const record = await store.read(this.sid, this.#apartBut(missing));
      if (this.#isEnded) throw sessionEnded();
      if (!record) throw this.#gone();
      if (!this.#isForAnySecret && isReplaced(header, record.header)) {
        await this.#last?.catch(() => {}); // which may have replaced it
        if (this.#isEnded) throw sessionEnded();
        if (isReplaced(this.#base.header, record.header)) throw this.#superseded(record, seen);
      }
      if (this.#reloadFrom(record, seen)) this.#keepCurrent(missing, record.attributes);
      missing = this.#missing(missing);
      if (missing.size === 0) return;
    } while (await backoff.next());
    throw conflict([...missing].join(', '), this.#inVain(backoff));
  }

  /** Fetches again what was loaded and has been changed by others. @throws {HoldfastError} as `load`. */
  async reloadStale(): Promise<void> {
    if (this.#loaded) await this.load(this.#staleNames());
  }

  /** Takes what another holder of the session has loaded, as far as it is of the state that is here. */
  adopt(other: SessionState): void {
    if (other.#loaded) this.#keepCurrent(other.#loaded.keys(), other.#loaded);
  }

  #missing(names: Iterable<string>): Set<string> {
    const missing = new Set<string>();
    for (const name of names) {
      if (!this.isApart(name) || this.#changed.has(name) || this.#inFlight.has(name)) continue;
      const version = this.#base.versionOf(name);
      if (version !== 0 && this.#loaded?.get(name)?.version !== version) missing.add(name);
    }
    return missing;
  }

  /** What was loaded of it is not what the base knows. */
  #isFormer(name: string): boolean {
    return (this.#loaded?.get(name)?.version ?? 0) !== this.#base.versionOf(name);
  }

  #staleNames(): string[] {
    return Array.from(this.#loaded?.keys() ?? []).filter(name => this.#isFormer(name));
  }

  /** What is of the state that is here. */
  #keepCurrent(names: Iterable<string>, attributes: ReadonlyMap<string, StoredAttribute | undefined>): void {
    for (const name of names) {
      const attribute = attributes.get(name);
      if ((attribute?.version ?? 0) === this.#base.versionOf(name)) this.#keep(name, attribute);
    }
  }

  #keep(name: string, attribute: StoredAttribute | undefined): void {
    const isNew = attribute && !(attribute instanceof LoadedAttribute);
    (this.#loaded ??= new Map()).set(name, isNew ? new LoadedAttribute(attribute) : attribute);
  }

  /** What a commit has written of what lies apart. @param isOwn Its holders may read it without loading it. */
  #keepCommitted({ attributes, version }: Committed, isOwn: boolean): void {
    if (!this.#rules.apart || this.#isEnded) return;
    for (const [name, value] of attributes) {
      if (!this.isApart(name)) continue;
      const isCurrent = this.#base.versionOf(name) === (value ? version : 0);
      if (this.#loaded?.has(name) ? isCurrent : isOwn) this.#keep(name, value && { value, version });
    }
  }

  /** What a read need not bring, when it needs these. */
  #apartBut(names: { has(name: string): boolean }): ReadonlySet<string> | undefined {
    const others = Array.from(this.#rules.apart ?? []).filter(name => !names.has(name));
    return others.length > 0 ? new Set(others) : undefined;
  }

  #snapshotOf(record: Omit<SessionRecord, 'lastAccessedAt'>): Snapshot {
    return new Snapshot(record, this.#rules.apart);
  }

  /** The value as it is stored, to be decoded elsewhere. It must not be changed. */
  getEncoded(name: string): Uint8Array | undefined {
    const bytes = this.#bytes(name);
    if (bytes === undefined && this.isApart(name)) this.#readLoaded(name);
    if (bytes && this.#rules.contents !== 'set' && !this.#given.has(name))
      this.#given = withEntry(this.#given, name, { value: undefined, isOwn: false });
    return bytes;
  }

  /** @throws {HoldfastError} as `decodeValue`. */
  get(name: string): unknown {
    const given = this.#given.get(name);
    if (given?.isOwn) return given.value; // with what the reader has changed in it
    const read = this.#readCounted(name);
    if (read && this.#rules.contents !== 'set') this.#given = withEntry(this.#given, name, read);
    return read?.value;
  }

  set(name: string, value: unknown): void {
    checkAttributeName(name);
    if (value === undefined) return this.delete(name);
    this.setEncoded(name, this.#encode(name, value));
  }

  /** @param bytes What `encodeValue` has made, of at most `maxAttributeBytes`. They must not change afterwards. */
  setEncoded(name: string, bytes: Uint8Array): void {
    checkAttributeName(name);
    this.#checkSize(name, bytes);
    this.#change(name, bytes);
  }

  delete(name: string): void {
    if (this.has(name)) this.#change(name, undefined);
    else if (this.isApart(name)) this.#keep(name, undefined);
  }

  has(name: string): boolean {
    if (this.#changed.has(name)) return this.#changed.get(name) !== undefined;
    if (this.#inFlight.has(name)) return this.#inFlight.get(name) !== undefined;
    return this.#base.has(name);
  }

  keys(): string[] {
    const names = new Set(this.#base.names());
    for (const layer of [this.#inFlight, this.#changed]) {
      for (const [name, bytes] of layer) {
        if (bytes) names.add(name);
        else names.delete(name);
      }
    }
    return [...names];
  }

  changeHeader(header: Partial<SessionHeader>): void {
    this.#changedHeader = { ...this.#changedHeader, ...header };
  }

  /**
   * Commits what was changed so far together with a new secret; when that fails the old secret stays.
   *
   * @param expected The hash of the secret that it replaces.
   * @throws {HoldfastError} ERR_SESSION_SUPERSEDED: another request has replaced that secret meanwhile.
   */
  async replaceSecret(header: NewSecret, expected: string): Promise<void> {
    if (this.#isStored) return this.#enqueue({ header, expected });
    this.changeHeader(header);
  }

  /** Says in the store, now and apart from all other changes, until when the secret before this one works. */
  async limitFormer(former: FormerSecret, expectedSecretHash: string): Promise<void> {
    const header = { former };
    const before = this.#base;
    const changes = { header, expectedSecretHash, follows: before.follow() };
    const result = await this.#rules.store.commit(this.sid, changes);
    if (result.status === 'gone') throw this.#gone();
    // Otherwise the secret was replaced meanwhile, and there is another before it.
    if (result.status === 'committed') this.#take({ attributes: NOTHING, header, ...result }, before);
  }

  /**
   * Resolves when everything changed before the call is in the store.
   *
   * @throws {HoldfastError} ERR_SESSION_ENDED when the session is gone, and the changes with it; ERR_SESSION_CONFLICT
   * under the policy `reject`, and the changes are dropped; ERR_SESSION_STORE_UNAVAILABLE or ERR_SESSION_NO_ROOM, and
   * they are kept for the next commit.
   */
  commit(): Promise<void> {
    if (!this.#last) return this.isDirty ? this.#enqueue() : Promise.resolve();
    this.#next ??= this.#enqueue();
    return this.#next;
  }

  /** Compare-and-swap on what the store holds. Resolves with the value written, decoded. */
  async update(name: string, change: (current: unknown) => unknown): Promise<unknown> {
    const written = await this.updateEncoded(name, before => {
      const next = change(before && decodeValue(before, name).value);
      return next === undefined ? undefined : this.#encode(name, next);
    });
    return written && decodeValue(written, name).value;
  }

  /** The same with values as they are stored. */
  async updateEncoded(
    name: string,
    change: (current: Uint8Array | undefined) => Awaitable<Uint8Array | undefined>,
  ): Promise<Uint8Array | undefined> {
    checkAttributeName(name);
    if (this.#isDetached) {
      const bytes = await change(this.#bytes(name));
      if (bytes) this.setEncoded(name, bytes);
      else this.delete(name);
      return bytes;
    }
    return this.#rules.updates.run(this.sid, async () => {
      if (!this.#isStored || this.#changed.has(name) || this.#inFlight.has(name)) await this.commit();
      const backoff = this.#backoff();
      do {
        if (this.#isEnded) throw sessionEnded();
        const found = await this.#rules.store.readAttributes(this.sid, new Set([name]));
        if (!found) throw this.#gone();
        const before = found.get(name);
        const bytes = await change(before?.value);
        if (bytes) this.#checkSize(name, bytes);
        const attributes = new Map([[name, bytes]]);
        const base = this.#base;
        const expected = new Map([[name, before?.version ?? 0]]);
        const changes = { ...toChanges(attributes), expected, follows: base.follow() };
        let result: CommitResult;
        try {
          result = await this.#rules.store.commit(this.sid, changes);
        } catch (error) {
          if (isNoRoom(error)) this.#countNoRoom();
          throw error;
        }
        if (result.status === 'gone') throw this.#gone();
        if (result.status === 'committed') {
          this.#lacksRoom = false;
          this.#rebase(name, bytes, result.version);
          this.#take({ attributes, header: undefined, ...result }, base);
          return bytes;
        }
        this.#rules.meters.conflicts++;
      } while (await backoff.next());
      throw conflict(name, this.#inVain(backoff));
    });
  }

  /**
   * Takes over what somebody else committed. Returns false, and takes nothing, when a commit in between is missing:
   * reload then.
   */
  absorb(committed: Committed): boolean {
    if (this.includes(committed)) return true;
    if (committed.previous !== this.version) return false;
    this.#moveTo(this.#base.after(committed), committed.version);
    this.#keepCommitted(committed, false);
    this.#commits++;
    return true;
  }

  /**
   * Takes over a whole record, under what is changed here. Returns false, and takes nothing, when it is older than what
   * is here, as far as can be told: read it again then.
   *
   * @param seen What `commits` was before the store was asked. If it still is, the record is what there is, also when
   * the store was set back.
   */
  reload(snapshot: Snapshot, seen: number | undefined): boolean {
    if (this.#commits !== seen) {
      if (snapshot.version === this.version) return true;
      if (snapshot.version < this.#latest) return false;
    }
    this.#moveTo(snapshot, snapshot.version);
    return true;
  }

  #reloadFrom(record: SessionRecord, seen: number): boolean {
    const isTaken = this.reload(this.#snapshotOf(record), seen);
    this.#rules.observer.onReloaded(this);
    return isTaken;
  }

  #superseded(record: SessionRecord, seen: number): HoldfastError {
    const { lastAccessedAt } = record;
    this.#rules.observer.onSuperseded(this, { snapshot: this.#snapshotOf(record), lastAccessedAt, seen });
    return superseded();
  }

  #moveTo(base: Snapshot, latest: number): void {
    this.#base = base;
    this.#latest = latest;
    if (this.#loaded) for (const name of this.#loaded.keys()) if (!base.has(name)) this.#loaded.set(name, undefined);
  }

  /** True when it is known that this commit is in what is here. */
  includes({ version }: Committed): boolean {
    return this.version === version || isLater(this.version, version);
  }

  #readCounted(name: string): ReadValue | undefined {
    try {
      return this.#read(name);
    } catch (error) {
      if (isHoldfastError(error) && error.code === 'ERR_SESSION_TYPE_UNKNOWN') this.#rules.meters.unknownTypes++;
      throw error;
    }
  }

  #read(name: string): ReadValue | undefined {
    const layer = this.#changed.has(name) ? this.#changed : this.#inFlight.has(name) ? this.#inFlight : undefined;
    if (layer === undefined) return this.isApart(name) ? this.#readLoaded(name) : this.#base.read(name);
    if (this.#decoded.has(name)) return { value: this.#decoded.get(name), isOwn: false };
    const bytes = layer.get(name);
    if (!bytes) return undefined;
    const { value, hasBytes } = decodeValue(bytes, name);
    if (!hasBytes) this.#decoded = withEntry(this.#decoded, name, value);
    return { value, isOwn: hasBytes };
  }

  #readLoaded(name: string): ReadValue | undefined {
    const loaded = this.#loaded?.get(name);
    if (!loaded && this.#base.has(name) && !this.#loaded?.has(name)) throw notLoaded(name);
    return loaded?.read(name);
  }

  /** Undefined for what is absent, or lies apart and was not loaded. */
  #bytes(name: string): Uint8Array | undefined {
    if (this.#changed.has(name)) return this.#changed.get(name);
    if (this.#inFlight.has(name)) return this.#inFlight.get(name);
    return (this.#base.attribute(name) ?? this.#loaded?.get(name))?.value;
  }

  #encode(name: string, value: unknown): Uint8Array {
    return encodeValue(name, value, this.#rules.maxAttributeBytes);
  }

  #checkSize(name: string, bytes: Uint8Array): void {
    const total = this.#base.bytes + this.#countGrowth() + this.#growthBy(name, bytes.length);
    const { maxSessionBytes } = this.#rules;
    if (total > maxSessionBytes) {
      throw new HoldfastError(
        'ERR_SESSION_TOO_LARGE',
        `with ${JSON.stringify(name)} (${bytes.length} bytes) the session would have ${total} bytes; at most ${maxSessionBytes} are allowed (maxSessionSize)`,
      );
    }
    if (!this.isApart(name)) this.#rules.sizes.note(this.sid, name, bytes.length, total - this.#countApart());
  }

  /** Bytes of what lies apart. */
  #countApart(): number {
    let bytes = 0;
    if (!this.#rules.apart) return bytes;
    for (const name of this.#rules.apart)
      bytes += sizeOf(name, this.#changed.has(name) ? this.#changed.get(name)?.length : this.#base.bytesOf(name));
    return bytes;
  }

  /** Counted on with each change, because requests may set thousands of attributes. */
  #countGrowth(): number {
    const base = this.#base;
    const changed = this.#changed;
    if (this.#growth?.base !== base || this.#growth.changed !== changed) {
      let bytes = 0;
      for (const [name, value] of changed) bytes += sizeOf(name, value?.length) - sizeOf(name, base.bytesOf(name));
      this.#growth = { base, changed, bytes };
    }
    return this.#growth.bytes;
  }

  /** What one more change would add. */
  #growthBy(name: string, bytes: number | undefined): number {
    const before = this.#changed.has(name) ? this.#changed.get(name)?.length : this.#base.bytesOf(name);
    return sizeOf(name, bytes) - sizeOf(name, before);
  }

  #change(name: string, bytes: Uint8Array | undefined): void {
    const growth = this.#countGrowth() + this.#growthBy(name, bytes?.length);
    const isJudged = this.#rules.conflicts !== 'last-wins';
    if (isJudged && !this.#changed.has(name)) this.#basis = withEntry(this.#basis, name, this.#known(name));
    this.#changed = withEntry(this.#changed, name, bytes);
    this.#growth = { base: this.#base, changed: this.#changed, bytes: growth };
    this.#decoded = withoutEntry(this.#decoded, name);
    this.#given = withoutEntry(this.#given, name);
  }

  /** What a holder who changes it may have seen. */
  #known(name: string): KnownAttribute | undefined {
    const known = this.#base.attribute(name) ?? this.#loaded?.get(name);
    const version = this.#base.versionOf(name);
    return known ?? (version === 0 ? undefined : { version, value: undefined });
  }

  #forgetChanges(): void {
    this.#changed = NOTHING;
    this.#changedHeader = undefined;
    this.#basis = NOTHING;
    this.#given = NOTHING;
    this.#decoded = NOTHING;
  }

  /** One after the other, in the order in which they were asked for; the first one at once. */
  #enqueue(secret?: SecretChange): Promise<void> {
    this.#underWay++;
    const write = () => this.#write(secret);
    const commit = this.#last ? this.#last.then(write, write) : write();
    if (this.#underWay > 0) this.#last = commit;
    return commit;
  }

  async #write(secret: SecretChange | undefined): Promise<void> {
    if (!secret) this.#next = undefined;
    try {
      const attempt = this.#begin(secret);
      if (!attempt) return;
      const { attributes, header, before } = attempt;
      const wasStored = this.#isStored;
      try {
        let result = wasStored ? await this.#try(attempt) : await this.#create(attempt);
        if (result.status === 'conflict') result = await this.#tryAgain(attempt);
        if (result.status !== 'committed') {
          const error = this.#gone();
          if (wasStored && this.#isOnlyRead(attempt, secret)) return; // nothing is lost
          this.#hasLost ||= attempt.changed.size > 0 || attempt.changedHeader !== undefined;
          throw error;
        }
        this.#lacksRoom = false;
        for (const [name, value] of attributes) this.#rebase(name, value, result.version);
        this.#take({ attributes, header, ...result }, before);
      } catch (error) {
        const isForAnotherTry = !isHoldfastError(error) || error.code !== 'ERR_SESSION_CONFLICT';
        if (!this.#isEnded && isForAnotherTry) this.#takeBack(attempt);
        if (!isNoRoom(error)) throw error;
        if (this.#isOnlyRead(attempt, secret)) return;
        if (!isOnlyRotated(attempt, secret)) this.#countNoRoom();
        throw error;
      } finally {
        this.#inFlight = NOTHING;
        this.#inFlightHeader = undefined;
        for (const name of attributes.keys())
          if (!this.#changed.has(name)) this.#decoded = withoutEntry(this.#decoded, name);
      }
    } finally {
      if (--this.#underWay === 0) this.#last = undefined;
    }
  }

  /** Takes what is changed for a commit. Undefined when there is nothing to write. */
  #begin(secret: SecretChange | undefined): Attempt | undefined {
    if (!this.isDirty && !secret) return undefined;
    const given = this.#given;
    const attributes = this.#withContents();
    const changed = this.#changed;
    const basis = this.#basis;
    const changedHeader = this.#changedHeader;
    const header = secret ? { ...changedHeader, ...secret.header } : changedHeader;
    this.#given = NOTHING;
    if (this.#isStored && attributes.size === 0 && !header) return undefined; // it was only read
    this.#changed = NOTHING;
    this.#changedHeader = undefined;
    this.#basis = NOTHING;
    this.#inFlight = attributes;
    this.#inFlightHeader = changedHeader;
    const expectedSecretHash = secret?.expected;
    return { attributes, header, basis, expectedSecretHash, before: this.#base, given, changed, changedHeader };
  }

  /** It writes only because of the contents that are configured. */
  #isOnlyRead({ changed, header }: Attempt, secret: SecretChange | undefined): boolean {
    return this.#isStored && changed.size === 0 && !header && !secret;
  }

  /** Once, however often it is tried. */
  #countNoRoom(): void {
    if (this.#lacksRoom) return;
    this.#lacksRoom = true;
    if (this.#isStored) this.#rules.meters.noRoomForChanges++;
    else this.#rules.meters.noRoom++;
  }

  /**
   * For another try, under what was changed meanwhile. What was written only because of the contents is not a change.
   */
  #takeBack({ attributes, basis, given, changed, changedHeader }: Attempt): void {
    const names = Array.from(changed.keys(), name => [name, attributes.get(name)] as const);
    this.#changed = new Map([...names, ...this.#changed]);
    this.#basis = new Map([...this.#basis, ...basis]);
    this.#given = new Map([...given, ...this.#given]);
    if (changedHeader) this.#changedHeader = { ...changedHeader, ...(this.#changedHeader as object | undefined) };
  }

  /**
   * An own commit is in the store: what was changed over it while it was on its way is a change of what it has written.
   */
  #rebase(name: string, value: Uint8Array | undefined, version: number): void {
    if (this.#basis.has(name)) this.#basis = withEntry(this.#basis, name, value && { value, version });
  }

  /** What was changed, and what the write contents add to it. */
  #withContents(): Values {
    const { contents, conflicts } = this.#rules;
    for (const [name, { isOwn, value }] of this.#given) {
      const bytes = this.#bytes(name);
      if (!isOwn || !bytes || this.#changed.has(name)) continue;
      const now = this.#encode(name, value);
      if (Buffer.compare(bytes, now) !== 0) this.#change(name, now); // changed in place
    }
    // Where it is not the last one that wins, nothing may be overwritten that was not changed here.
    if (contents === 'set' || conflicts !== 'last-wins') return this.#changed;
    const written = new Map(this.#changed);
    for (const name of contents === 'all' ? this.#base.names() : this.#given.keys()) {
      if (this.isApart(name) && this.#isFormer(name)) continue;
      const bytes = this.#bytes(name);
      if (bytes && !written.has(name)) written.set(name, bytes);
    }
    return written;
  }

  #try({ attributes, header, basis, expectedSecretHash }: Attempt): Promise<CommitResult> {
    const expected = this.#rules.conflicts === 'last-wins' ? undefined : versionsOf(basis);
    const { set, deleted } = toChanges(attributes);
    const follows = this.#base.follow();
    return this.#rules.store.commit(this.sid, { set, deleted, header, expected, expectedSecretHash, follows });
  }

  /** After a try that met a conflict. */
  async #tryAgain(attempt: Attempt): Promise<CommitResult> {
    const { conflicts, store, meters } = this.#rules;
    const { attributes, basis, expectedSecretHash } = attempt;
    const backoff = this.#backoff();
    let what = 'was changed by somebody else meanwhile';
    for (;;) {
      const seen = this.#commits;
      const record = await store.read(this.sid, this.#apartBut(basis));
      if (!record) return { status: 'gone' };
      if (expectedSecretHash !== undefined && record.header.secretHash !== expectedSecretHash)
        throw this.#superseded(record, seen);
      // What is changed again is a change of what was met.
      const names = Array.from(basis.keys()).filter(name => this.isApart(name));
      if (this.#reloadFrom(record, seen) && !this.#isEnded) this.#keepCurrent(names, record.attributes);
      meters.conflicts++;
      if (typeof conflicts !== 'function') break;
      for (const [name, ours] of basis) {
        const theirs = record.attributes.get(name);
        if (theirs?.version === ours?.version) continue;
        const decode = (bytes: Uint8Array | undefined) => bytes && decodeValue(bytes, name).value;
        const merged = conflicts({
          name,
          base: decode(ours?.value),
          mine: decode(attributes.get(name)),
          theirs: decode(theirs?.value),
        });
        withEntry(attributes, name, merged === undefined ? undefined : this.#encode(name, merged));
        withEntry(basis, name, theirs);
      }
      const result = await this.#try(attempt);
      if (result.status !== 'conflict') return result;
      if (await backoff.next()) continue;
      what = this.#inVain(backoff);
      break;
    }
    throw conflict([...attributes.keys()].join(', '), what);
  }

  #backoff(): Backoff {
    const { clock, storeTimeoutMs } = this.#rules;
    return new Backoff(clock, storeTimeoutMs);
  }

  #inVain({ tries }: Backoff): string {
    return `was changed by others at each of ${tries} tries in ${this.#rules.storeTimeoutMs} ms (storeTimeout)`;
  }

  async #create(attempt: Attempt): Promise<CommitResult> {
    const { attributes, header } = attempt;
    const version = firstVersion();
    // The request that makes it may have run for long.
    this.lastAccessedAt = this.#rules.accesses.latest(this.sid, this.lastAccessedAt);
    const stored = new Map<string, StoredAttribute>();
    for (const [name, value] of attributes) if (value) stored.set(name, { value, version });
    const record = {
      header: { ...this.#base.header, ...header },
      version,
      lastAccessedAt: this.lastAccessedAt,
      attributes: stored,
    };
    if (!(await this.#rules.creations.create(this.sid, record))) return this.#join(record.header, attempt);
    this.#isStored = true;
    // It was ended meanwhile, or before, or given up: nobody would ever ask for it.
    if (this.#isEnded || (this.#isDetached && !this.isDerived) || (this.#isFirstLife && !(await this.#isFirstLife()))) {
      await this.#rules.store.delete(this.sid);
      return { status: 'gone' };
    }
    this.#moveTo(this.#snapshotOf(record).markOwn(), version);
    this.#rules.observer.onCreated(this, this.#base);
    return { status: 'committed', version, previous: NO_VERSION };
  }

  /**
   * The sid is taken: by an earlier try of ours that only seemed to fail, or by a request that derived the same
   * session.
   */
  async #join(ours: SessionHeader, attempt: Attempt): Promise<CommitResult> {
    const { attributes, header } = attempt;
    const existing = await this.#rules.store.read(this.sid, this.#rules.apart);
    if (!existing) return { status: 'gone' };
    const { secretHash } = existing.header;
    const derived = this.#base.header.secretHash;
    if (secretHash !== ours.secretHash && secretHash !== derived) throw superseded();
    if (existing.header.owner && existing.header.owner.name !== ours.owner?.name) throw superseded();
    this.#isStored = true;
    this.#moveTo(this.#snapshotOf(existing), existing.version);
    // A login that has not been written yet replaces the secret that all of them derive.
    const expected = secretHash === ours.secretHash ? undefined : derived;
    const left = secretHash === ours.secretHash ? withoutSecret(header) : header;
    if (attributes.size === 0 && !left)
      return { status: 'committed', version: existing.version, previous: existing.version };
    const rest = { ...attempt, header: left, expectedSecretHash: expected };
    const result = await this.#try(rest);
    return result.status === 'conflict' ? this.#tryAgain(rest) : result;
  }

  #take(committed: Committed, before: Snapshot): void {
    if (!this.#isEnded && !this.includes(committed)) {
      const base = this.#base.after(committed);
      // At a higher one: it was reloaded meanwhile, with this commit and what others have written over it.
      if (base.version === committed.version) this.#moveTo(base.markOwn(), committed.version);
      else if (this.#base === before || committed.version > this.#latest) this.#moveTo(base, committed.version);
    }
    this.#keepCommitted(committed, true);
    this.#commits++;
    this.#rules.observer.onCommitted(this, committed, before);
  }

  #gone(): HoldfastError {
    this.markEnded();
    return sessionEnded();
  }
}

/** It writes a new secret that was due by time, and nothing that anybody has changed. */
function isOnlyRotated({ changed, changedHeader }: Attempt, secret: SecretChange | undefined): boolean {
  return secret?.header.former?.kind === 'rotated' && changed.size === 0 && changedHeader === undefined;
}

export function sessionEnded(): HoldfastError {
  return new HoldfastError('ERR_SESSION_ENDED', 'the session has ended; what was changed in it is not kept', {
    status: 401,
    closeCode: 1008,
  });
}

/** The request came with a secret, or would replace one, that another request has replaced. */
export function superseded(): HoldfastError {
  const message =
    'the session was given a new secret by another request, at a login; send the request again with the new cookie';
  return new HoldfastError('ERR_SESSION_SUPERSEDED', message, { status: 409, closeCode: 1008 });
}

export function isSuperseded(error: unknown): boolean {
  return isHoldfastError(error) && error.code === 'ERR_SESSION_SUPERSEDED';
}

/** True for an error that says that the session ended meanwhile: not a failure of the store. */
export function isSessionEnded(error: unknown): boolean {
  return isHoldfastError(error) && error.code === 'ERR_SESSION_ENDED';
}

function conflict(names: string, what: string): HoldfastError {
  return new HoldfastError('ERR_SESSION_CONFLICT', `session attribute ${JSON.stringify(names)} ${what}; try again`, {
    status: 409,
  });
}

function toChanges(attributes: Values): SessionChanges {
  let deleted: Set<string> | undefined;
  for (const [name, bytes] of attributes) if (!bytes) deleted = (deleted ?? new Set()).add(name);
  if (!deleted) return { set: attributes as ReadonlyMap<string, Uint8Array> };
  const set = new Map<string, Uint8Array>();
  for (const [name, bytes] of attributes) if (bytes) set.set(name, bytes);
  return { set, deleted };
}

/** What an own earlier try has written already. */
function withoutSecret(header: Partial<SessionHeader> | undefined): Partial<SessionHeader> | undefined {
  const { secretHash: _hash, secretAt: _at, former: _former, ...left } = header ?? {};
  return Object.keys(left).length > 0 ? left : undefined;
}

function versionsOf(attributes: Basis): Map<string, number> {
  return new Map(Array.from(attributes, ([name, attribute]) => [name, attribute?.version ?? 0]));
}

function sizeOf(name: string, bytes: number | undefined): number {
  return bytes === undefined ? 0 : name.length + bytes;
}

/** The same map with one entry more, or a new one in the place of `NOTHING`. */
function withEntry<V>(map: ReadonlyMap<string, V>, name: string, value: V): ReadonlyMap<string, V> {
  if (map === NOTHING) return new Map<string, V>().set(name, value);
  return (map as Map<string, V>).set(name, value);
}

function withoutEntry<V>(map: ReadonlyMap<string, V>, name: string): ReadonlyMap<string, V> {
  if (map !== NOTHING) (map as Map<string, V>).delete(name);
  return map;
}
