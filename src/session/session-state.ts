import { HoldfastError, isHoldfastError } from '../base/errors.ts';
import { decodeValue, encodeValue } from './serializer.ts';
import type { CommitResult, SessionChanges, SessionHeader, SessionRecord, SessionStore } from './store.ts';

const MAX_UPDATE_TRIES = 5;
const MAX_NAME_LENGTH = 256;

/** What one commit wrote: attributes that are `undefined` were deleted. */
export interface Committed {
  readonly attributes: ReadonlyMap<string, Uint8Array | undefined>;
  readonly header: Partial<SessionHeader> | undefined;
  readonly version: number;
}

export interface SessionStateOptions {
  readonly sid: string;
  readonly record: SessionRecord;
  /** False for a session that the first commit will create. */
  readonly isStored: boolean;
  readonly store: SessionStore;
  readonly maxAttributeBytes: number;
  /** Told after each commit of this state. */
  readonly onCommitted: (state: SessionState, committed: Committed) => void;
  /** Told once, when it is known that the session is over. */
  readonly onEnded: (state: SessionState) => void;
  /** Runs updates of one session one after the other in this process: only other processes are left to conflict with. */
  readonly serialize: <T>(sid: string, task: () => Promise<T>) => Promise<T>;
}

/**
 * One session's data as its holders see it: what the store holds, and over it what was changed here and is not committed yet.
 *
 * Commits of one state run one at a time and in order; changes made meanwhile go with the next one.
 */
export class SessionState {
  readonly sid: string;
  lastAccessedAt: number;
  readonly #options: SessionStateOptions;
  #header: SessionHeader;
  #version: number;
  #stored: Map<string, Uint8Array>;
  #isStored: boolean;
  #isEnded = false;

  #changed = new Map<string, Uint8Array | undefined>();
  #changedHeader: Partial<SessionHeader> | undefined;
  /** What the commit on its way writes: still over `#stored`, under `#changed`. */
  #inFlight: ReadonlyMap<string, Uint8Array | undefined> = new Map();
  #inFlightHeader: Partial<SessionHeader> | undefined;
  readonly #decoded = new Map<string, unknown>();
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(options: SessionStateOptions) {
    const { sid, record, isStored } = options;
    this.sid = sid;
    this.lastAccessedAt = record.lastAccessedAt;
    this.#options = options;
    this.#header = record.header;
    this.#version = record.version;
    this.#stored = valuesOf(record);
    this.#isStored = isStored;
  }

  /** With what is changed and not committed yet. */
  get header(): SessionHeader {
    if (!this.#inFlightHeader && !this.#changedHeader) return this.#header;
    return { ...this.#header, ...this.#inFlightHeader, ...this.#changedHeader };
  }

  get version(): number {
    return this.#version;
  }

  get isStored(): boolean {
    return this.#isStored;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** True when a commit would write something. */
  get isDirty(): boolean {
    return !this.#isEnded && (!this.#isStored || this.#changed.size > 0 || this.#changedHeader !== undefined);
  }

  /** From now on nothing is written. */
  markEnded(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#changed.clear();
    this.#changedHeader = undefined;
    this.#decoded.clear();
    this.#options.onEnded(this);
  }

  get(name: string): unknown {
    if (this.#decoded.has(name)) return this.#decoded.get(name);
    const bytes = this.#bytes(name);
    if (!bytes) return undefined;
    const { value, hasBytes } = decodeValue(bytes);
    // Typed arrays cannot be frozen: each reader gets its own, so that none sees what another did to it.
    if (!hasBytes) this.#decoded.set(name, value);
    return value;
  }

  set(name: string, value: unknown): void {
    checkName(name);
    if (value === undefined) this.delete(name);
    else this.#change(name, encodeValue(name, value, this.#options.maxAttributeBytes));
  }

  delete(name: string): void {
    if (this.has(name)) this.#change(name, undefined);
  }

  has(name: string): boolean {
    return this.#bytes(name) !== undefined;
  }

  keys(): string[] {
    const names = new Set(this.#stored.keys());
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

  /** Commits with a new secret; when that fails the old secret stays. */
  async replaceSecret(header: Partial<SessionHeader> & { readonly secretHash: string }): Promise<void> {
    this.changeHeader(header);
    if (!this.#isStored) return;
    try {
      await this.commit();
    } catch (error) {
      if (this.#changedHeader?.secretHash === header.secretHash) {
        const { secretHash: _secretHash, owner: _owner, ...rest } = this.#changedHeader;
        this.#changedHeader = Object.keys(rest).length > 0 ? rest : undefined;
      }
      throw error;
    }
  }

  /**
   * Resolves when everything changed before the call is in the store.
   *
   * @throws {HoldfastError} ERR_SESSION_ENDED when the session is gone, and the changes with it; ERR_SESSION_STORE_UNAVAILABLE or
   * ERR_SESSION_NO_ROOM, and the changes are kept for the next commit.
   */
  commit(): Promise<void> {
    if (this.#next) return this.#next;
    if (!this.#running) return this.#run();
    this.#next = this.#running
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        return this.#run();
      });
    return this.#next;
  }

  /** Compare-and-swap on what the store holds. Resolves with the value written, decoded. */
  async update(name: string, change: (current: unknown) => unknown): Promise<unknown> {
    checkName(name);
    return this.#options.serialize(this.sid, async () => {
      if (!this.#isStored || this.#changed.has(name) || this.#inFlight.has(name)) await this.commit();
      for (let tries = 0; tries < MAX_UPDATE_TRIES; tries++) {
        const record = await this.#options.store.read(this.sid);
        if (!record) throw this.#gone();
        const before = record.attributes.get(name);
        const next = change(before && decodeValue(before.value).value);
        const bytes = next === undefined ? undefined : encodeValue(name, next, this.#options.maxAttributeBytes);
        const attributes = new Map([[name, bytes]]);
        const expected = new Map([[name, before?.version ?? 0]]);
        const result = await this.#options.store.commit(this.sid, { ...toChanges(attributes), expected });
        if (result.status === 'conflict') continue;
        this.#finish(result, attributes, undefined);
        return bytes && decodeValue(bytes).value;
      }
      throw new HoldfastError(
        'ERR_SESSION_CONFLICT',
        `session attribute ${JSON.stringify(name)} was changed by others during ${MAX_UPDATE_TRIES} tries to update it; try again`,
        { status: 409 },
      );
    });
  }

  /** Takes over what somebody else committed. Returns false, and takes nothing, when a commit in between is missing: reload then. */
  absorb({ attributes, header, version }: Committed): boolean {
    if (version <= this.#version) return true;
    if (version !== this.#version + 1) return false;
    this.#apply(attributes, header, version);
    return true;
  }

  /** Takes over a whole record, under what is changed here. */
  reload(record: SessionRecord): void {
    if (record.version <= this.#version) return;
    this.#header = record.header;
    this.#version = record.version;
    this.#stored = valuesOf(record);
    this.#decoded.clear();
  }

  #bytes(name: string): Uint8Array | undefined {
    if (this.#changed.has(name)) return this.#changed.get(name);
    if (this.#inFlight.has(name)) return this.#inFlight.get(name);
    return this.#stored.get(name);
  }

  #change(name: string, bytes: Uint8Array | undefined): void {
    this.#changed.set(name, bytes);
    this.#decoded.delete(name);
  }

  #run(): Promise<void> {
    if (!this.isDirty) return Promise.resolve();
    this.#running = this.#write().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #write(): Promise<void> {
    const attributes = this.#changed;
    const header = this.#changedHeader;
    this.#changed = new Map();
    this.#changedHeader = undefined;
    this.#inFlight = attributes;
    this.#inFlightHeader = header;
    const { store } = this.#options;
    try {
      const result = this.#isStored
        ? await store.commit(this.sid, { ...toChanges(attributes), header })
        : await this.#create(attributes, header);
      this.#finish(result, attributes, header);
    } catch (error) {
      if (!this.#isEnded) this.#putBack(attributes, header);
      throw error;
    } finally {
      this.#inFlight = new Map();
      this.#inFlightHeader = undefined;
    }
  }

  /** What could not be committed goes under what was changed meanwhile. */
  #putBack(attributes: ReadonlyMap<string, Uint8Array | undefined>, header: Partial<SessionHeader> | undefined): void {
    this.#changed = new Map([...attributes, ...this.#changed]);
    if (header) this.#changedHeader = { ...header, ...this.#changedHeader };
  }

  async #create(
    attributes: ReadonlyMap<string, Uint8Array | undefined>,
    header: Partial<SessionHeader> | undefined,
  ): Promise<CommitResult> {
    const version = 1;
    const stored = new Map<string, { value: Uint8Array; version: number }>();
    for (const [name, value] of attributes) if (value) stored.set(name, { value, version });
    const record = {
      header: { ...this.#header, ...header },
      version,
      lastAccessedAt: this.lastAccessedAt,
      attributes: stored,
    };
    if (!(await this.#options.store.create(this.sid, record))) {
      // The sid is taken: by an earlier try of ours that only seemed to fail, or by somebody else's session.
      const existing = await this.#options.store.read(this.sid);
      if (existing?.header.secretHash !== record.header.secretHash) return { status: 'gone' };
      this.#isStored = true;
      return this.#options.store.commit(this.sid, { ...toChanges(attributes), header });
    }
    this.#isStored = true;
    return { status: 'committed', version };
  }

  #finish(
    result: CommitResult,
    attributes: ReadonlyMap<string, Uint8Array | undefined>,
    header: Partial<SessionHeader> | undefined,
  ): void {
    if (result.status !== 'committed') throw this.#gone();
    const committed: Committed = { attributes, header, version: result.version };
    // At a later version already: it was reloaded meanwhile, with this commit and what others have written over it.
    if (!this.#isEnded && result.version > this.#version) {
      const isNext = result.version === this.#version + 1;
      // With a gap the version stays behind: that says that other attributes may be out of date.
      this.#apply(attributes, header, isNext ? result.version : this.#version);
    }
    this.#options.onCommitted(this, committed);
  }

  #apply(
    attributes: ReadonlyMap<string, Uint8Array | undefined>,
    header: Partial<SessionHeader> | undefined,
    version: number,
  ): void {
    for (const [name, bytes] of attributes) {
      if (bytes) this.#stored.set(name, bytes);
      else this.#stored.delete(name);
      this.#decoded.delete(name);
    }
    if (header) this.#header = { ...this.#header, ...header };
    this.#version = version;
  }

  #gone(): HoldfastError {
    this.markEnded();
    return sessionEnded();
  }
}

export function sessionEnded(): HoldfastError {
  return new HoldfastError('ERR_SESSION_ENDED', 'the session has ended; what was changed in it is not kept', {
    status: 401,
    closeCode: 1008,
  });
}

/** True for an error that says that the session ended meanwhile: not a failure of the store. */
export function isSessionEnded(error: unknown): boolean {
  return isHoldfastError(error) && error.code === 'ERR_SESSION_ENDED';
}

function toChanges(attributes: ReadonlyMap<string, Uint8Array | undefined>): SessionChanges {
  const set = new Map<string, Uint8Array>();
  const deleted = new Set<string>();
  for (const [name, bytes] of attributes) {
    if (bytes) set.set(name, bytes);
    else deleted.add(name);
  }
  return { set, deleted };
}

function valuesOf(record: SessionRecord): Map<string, Uint8Array> {
  const values = new Map<string, Uint8Array>();
  for (const [name, { value }] of record.attributes) values.set(name, value);
  return values;
}

function checkName(name: string): void {
  if (typeof name === 'string' && name !== '' && name.length <= MAX_NAME_LENGTH) return;
  throw new TypeError(`session attribute name must be a text of 1 to ${MAX_NAME_LENGTH} characters`);
}
