import type { ApartAttribute, SessionHeader, SessionRecord, StoredAttribute } from '../store.ts';
import { decodeValue } from './decoder.ts';

/** What one commit wrote: attributes that are `undefined` were deleted. */
export interface Committed {
  readonly attributes: ReadonlyMap<string, Uint8Array | undefined>;
  readonly header: Partial<SessionHeader> | undefined;
  /** The record's version since, and what it was before. */
  readonly version: number;
  readonly previous: number;
}

/** A value as a reader gets it. */
export interface ReadValue {
  readonly value: unknown;
  /** Nobody else has it: it holds bytes, which cannot be frozen. */
  readonly isOwn: boolean;
}

/** That of a session which is not stored yet, or not known as a whole. No record has it. */
export const NO_VERSION = 0;

/**
 * One session as the store held it at one version. It never changes; what has been decoded of it is kept with it, so
 * that all who share it decode once.
 *
 * Of attributes that lie apart it knows version and size, and never a value.
 */
export class Snapshot {
  readonly header: SessionHeader;
  readonly version: number;
  /** Bytes of all names and values, wherever they are. */
  readonly bytes: number;
  /** Bytes of the names and values that are here. */
  readonly heldBytes: number;
  readonly #attributes: ReadonlyMap<string, StoredAttribute>;
  readonly #apart: ReadonlyMap<string, ApartAttribute> | undefined;
  readonly #apartNames: ReadonlySet<string> | undefined;
  #decoded: Map<string, unknown> | undefined;
  #isToFollow = false;

  /** @param apartNames Attributes that lie apart, whether or not the record brings their values. */
  constructor(
    record: Omit<SessionRecord, 'lastAccessedAt'>,
    apartNames?: ReadonlySet<string>,
    decoded?: Map<string, unknown>,
  ) {
    const { attributes, apart } = apartNames ? setApart(record, apartNames) : record;
    this.header = record.header;
    this.version = record.version;
    this.#attributes = attributes;
    this.#apart = apart;
    this.#apartNames = apartNames;
    this.#decoded = decoded;
    let bytes = 0;
    for (const [name, { value }] of attributes) bytes += name.length + value.length;
    this.heldBytes = bytes;
    if (apart) for (const [name, attribute] of apart) bytes += name.length + attribute.bytes;
    this.bytes = bytes;
  }

  /** This process has written this version, and the store has said so. */
  markOwn(): this {
    this.#isToFollow = true;
    return this;
  }

  /**
   * As of `SessionChanges`, for one commit: what becomes of that may never be known, and another that counted on from
   * here too could give its version to other content.
   */
  follow(): number | undefined {
    if (!this.#isToFollow) return undefined;
    this.#isToFollow = false;
    return this.version;
  }

  /** How many attributes there are. */
  get size(): number {
    return this.#attributes.size + (this.#apart?.size ?? 0);
  }

  names(): Iterable<string> {
    return this.#apart ? [...this.#attributes.keys(), ...this.#apart.keys()] : this.#attributes.keys();
  }

  has(name: string): boolean {
    return this.#attributes.has(name) || this.#apart?.has(name) === true;
  }

  /** 0 for one that is absent. */
  versionOf(name: string): number {
    return (this.#attributes.get(name) ?? this.#apart?.get(name))?.version ?? 0;
  }

  /** How long its value is; undefined for one that is absent. */
  bytesOf(name: string): number | undefined {
    return this.#attributes.get(name)?.value.length ?? this.#apart?.get(name)?.bytes;
  }

  /** Undefined for one that is absent, or lies apart. */
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
   * The session after a commit to it. When that was made to another version, this one is of no version, 0: other
   * attributes may be out of date.
   */
  after({ attributes: changed, header, version, previous }: Committed): Snapshot {
    const attributes = new Map(this.#attributes);
    const apart = this.#apart && new Map(this.#apart);
    for (const [name, value] of changed) {
      apart?.delete(name);
      if (value) attributes.set(name, { value, version });
      else attributes.delete(name);
    }
    let decoded: Map<string, unknown> | undefined;
    for (const [name, value] of this.#decoded ?? [])
      if (!changed.has(name)) decoded = (decoded ?? new Map()).set(name, value);
    return new Snapshot(
      {
        header: header ? { ...this.header, ...header } : this.header,
        version: previous === this.version ? version : NO_VERSION,
        attributes,
        ...(apart && { apart }),
      },
      this.#apartNames,
      decoded,
    );
  }
}

/** Some stores return all values, and what this process has just written comes with them. */
function setApart(
  { attributes, apart }: Pick<SessionRecord, 'attributes' | 'apart'>,
  names: ReadonlySet<string>,
): Pick<SessionRecord, 'attributes' | 'apart'> {
  let values: Map<string, StoredAttribute> | undefined;
  let sizes: Map<string, ApartAttribute> | undefined;
  for (const name of names) {
    const attribute = attributes.get(name);
    if (!attribute) continue;
    values ??= new Map(attributes);
    values.delete(name);
    sizes ??= new Map(apart);
    sizes.set(name, { version: attribute.version, bytes: attribute.value.length });
  }
  return values && sizes ? { attributes: values, apart: sizes } : { attributes, ...(apart && { apart }) };
}
