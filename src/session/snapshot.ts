import { decodeValue } from './serializer.ts';
import type { SessionHeader, SessionRecord, StoredAttribute } from './store.ts';

/** What one commit wrote: attributes that are `undefined` were deleted. */
export interface Committed {
  readonly attributes: ReadonlyMap<string, Uint8Array | undefined>;
  readonly header: Partial<SessionHeader> | undefined;
  /** The record's version since. */
  readonly version: number;
}

/** A value as a reader gets it. */
export interface ReadValue {
  readonly value: unknown;
  /** Nobody else has it: it holds bytes, which cannot be frozen. */
  readonly isOwn: boolean;
}

/**
 * One session as the store held it at one version. It never changes; what has been decoded of it is kept with it, so that all who
 * share it decode once.
 */
export class Snapshot {
  readonly header: SessionHeader;
  readonly version: number;
  /** Bytes of all names and values. */
  readonly bytes: number;
  readonly #attributes: ReadonlyMap<string, StoredAttribute>;
  #decoded: Map<string, unknown> | undefined;

  constructor(record: Pick<SessionRecord, 'header' | 'version' | 'attributes'>, decoded?: Map<string, unknown>) {
    this.header = record.header;
    this.version = record.version;
    this.#attributes = record.attributes;
    this.#decoded = decoded;
    let bytes = 0;
    for (const [name, { value }] of record.attributes) bytes += name.length + value.length;
    this.bytes = bytes;
  }

  /** How many attributes there are. */
  get size(): number {
    return this.#attributes.size;
  }

  names(): Iterable<string> {
    return this.#attributes.keys();
  }

  attribute(name: string): StoredAttribute | undefined {
    return this.#attributes.get(name);
  }

  /** @throws {HoldfastError} as `decodeValue`. */
  read(name: string): ReadValue | undefined {
    if (this.#decoded?.has(name)) return { value: this.#decoded.get(name), isOwn: false };
    const attribute = this.#attributes.get(name);
    if (!attribute) return undefined;
    const { value, hasBytes } = decodeValue(attribute.value, name);
    // Each reader gets its own bytes, so that none sees what another did to them.
    if (!hasBytes) (this.#decoded ??= new Map()).set(name, value);
    return { value, isOwn: hasBytes };
  }

  /**
   * The session after a commit to it. When there was another commit in between, the version stays behind: that says that other attributes may
   * be out of date.
   */
  after({ attributes: changed, header, version }: Committed): Snapshot {
    const attributes = new Map(this.#attributes);
    for (const [name, value] of changed) {
      const before = attributes.get(name);
      if (value) attributes.set(name, { value, version: before ? before.version + 1 : version });
      else attributes.delete(name);
    }
    let decoded: Map<string, unknown> | undefined;
    for (const [name, value] of this.#decoded ?? [])
      if (!changed.has(name)) decoded = (decoded ?? new Map()).set(name, value);
    return new Snapshot(
      {
        header: header ? { ...this.header, ...header } : this.header,
        version: version === this.version + 1 ? version : this.version,
        attributes,
      },
      decoded,
    );
  }
}
