import type { SessionHeader } from '../../store.ts';

/** One attribute of a record, as its head has it. */
export interface HeadAttribute {
  readonly version: number;
  /** A small value is in the head, so that changing it is one write. Undefined: it is an entry of its own. */
  readonly value: Uint8Array | undefined;
  /** How long a value of its own is; undefined: an older version has written the head, and has not said so. */
  readonly bytes?: number;
}

export type HeadAttributes = ReadonlyMap<string, HeadAttribute>;

/** Says that bytes follow; a head of layout 2 begins with `[`, and is JSON altogether. */
const FORMAT = 3;
const JSON_ARRAY = 0x5b;
/** Format, and the length of the text. */
const PREFIX_BYTES = 5;
const APART = -1;
const UNKNOWN = -1;
/** Larger values are entries of their own ... */
const MAX_VALUE_BYTES = 256;
/** ... and small ones that would make the head larger than this: every commit writes it. */
const MAX_VALUES_BYTES = 1_024;

/**
 * A record without the larger ones of its values. Its LMDB entry carries the record's version: the condition of every
 * change.
 *
 * Stored as a text of lines (sid, header, of the attributes their names, versions and bytes, and, where larger values
 * are apart, how long those are), then the small values. Older versions read and write three lines. The header stays as it is stored until somebody asks for it: most commits do not.
 */
export class Head {
  readonly attributes: HeadAttributes;
  readonly #sid: string;
  readonly #headerText: string;
  #header: SessionHeader | undefined;

  private constructor(sid: string, headerText: string, attributes: HeadAttributes) {
    this.#sid = sid;
    this.#headerText = headerText;
    this.attributes = attributes;
  }

  static of(sid: string, header: SessionHeader, attributes: HeadAttributes): Head {
    return new Head(JSON.stringify(sid), JSON.stringify(header), attributes);
  }

  /** Keeps nothing of the bytes, which may be the library's. */
  static decode(bytes: Buffer): Head {
    const { length } = bytes;
    if (bytes[0] === JSON_ARRAY) return decodeLayout2(bytes.toString('utf8', 0, length));
    let start = PREFIX_BYTES + bytes.readUInt32LE(1);
    const lines = bytes.toString('utf8', PREFIX_BYTES, start).split('\n') as [string, string, string, string?];
    const [sid, header, list, sizes] = lines;
    const attributes = new Map<string, HeadAttribute>();
    const values = JSON.parse(list) as (string & number)[];
    const apart: number[] | undefined = sizes && JSON.parse(sizes);
    let seen = 0;
    for (let index = 0; index < values.length; index += 3) {
      const size: number = values[index + 2]!;
      const version: number = values[index + 1]!;
      if (size === APART) {
        const known = apart?.[seen++] ?? UNKNOWN;
        attributes.set(values[index]!, { version, value: undefined, ...(known !== UNKNOWN && { bytes: known }) });
        continue;
      }
      attributes.set(values[index]!, { version, value: Uint8Array.prototype.slice.call(bytes, start, start + size) });
      start += size;
    }
    return new Head(sid, header, attributes);
  }

  get sid(): string {
    return JSON.parse(this.#sid);
  }

  get header(): SessionHeader {
    this.#header ??= JSON.parse(this.#headerText) as SessionHeader;
    return this.#header;
  }

  /** @param header Undefined: as it is. */
  with(header: SessionHeader | undefined, attributes: HeadAttributes): Head {
    return new Head(this.#sid, header ? JSON.stringify(header) : this.#headerText, attributes);
  }

  encode(): Buffer {
    const list: (string | number)[] = [];
    let valuesBytes = 0;
    let apart: number[] | undefined;
    for (const [name, { version, value, bytes = UNKNOWN }] of this.attributes) {
      list.push(name, version, value ? value.length : APART);
      if (value) valuesBytes += value.length;
      else (apart ??= []).push(bytes);
    }
    const sizes = apart ? `\n${JSON.stringify(apart)}` : '';
    const text = `${this.#sid}\n${this.#headerText}\n${JSON.stringify(list)}${sizes}`;
    const textBytes = Buffer.byteLength(text);
    let at = PREFIX_BYTES + textBytes;
    const bytes = Buffer.allocUnsafe(at + valuesBytes);
    bytes[0] = FORMAT;
    bytes.writeUInt32LE(textBytes, 1);
    bytes.write(text, PREFIX_BYTES);
    for (const { value } of this.attributes.values()) {
      if (!value) continue;
      bytes.set(value, at);
      at += value.length;
    }
    return bytes;
  }
}

/** How the attributes are after a change, and which entries of their own that takes. */
export class HeadChange {
  readonly attributes: Map<string, HeadAttribute>;
  /** Values to put into entries of their own. */
  readonly put: [name: string, value: Uint8Array][] = [];
  /** Names whose entries are to be removed. */
  readonly removed: string[] = [];
  #valuesBytes = 0;

  constructor(before: HeadAttributes) {
    this.attributes = new Map(before);
    for (const { value } of before.values()) this.#valuesBytes += value?.length ?? 0;
  }

  /** Bytes of the values that get entries of their own. */
  get putBytes(): number {
    let bytes = 0;
    for (const [, { length }] of this.put) bytes += length;
    return bytes;
  }

  /** True when the head is all that has to be written. */
  get isHeadOnly(): boolean {
    return this.put.length === 0 && this.removed.length === 0;
  }

  set(name: string, value: Uint8Array, version: number): void {
    const before = this.attributes.get(name);
    this.#valuesBytes -= before?.value?.length ?? 0;
    const isSmall = value.length <= MAX_VALUE_BYTES && this.#valuesBytes + value.length <= MAX_VALUES_BYTES;
    this.attributes.set(name, isSmall ? { version, value } : { version, value: undefined, bytes: value.length });
    if (!isSmall) this.put.push([name, value]);
    else {
      this.#valuesBytes += value.length;
      if (before && !before.value) this.removed.push(name);
    }
  }

  /** Of values of their own, where an older version has written the head. */
  learnSizes(lengthOf: (name: string) => number | undefined): void {
    for (const [name, { version, value, bytes }] of this.attributes) {
      const length = value || bytes !== undefined ? undefined : lengthOf(name);
      if (length !== undefined) this.attributes.set(name, { version, value, bytes: length });
    }
  }

  delete(name: string): void {
    const before = this.attributes.get(name);
    if (!before) return;
    this.attributes.delete(name);
    if (before.value) this.#valuesBytes -= before.value.length;
    else this.removed.push(name);
  }
}

function decodeLayout2(text: string): Head {
  const [sid, header, versions] = JSON.parse(text) as [string, SessionHeader, [string, number][]];
  return Head.of(sid, header, new Map(versions.map(([name, version]) => [name, { version, value: undefined }])));
}
