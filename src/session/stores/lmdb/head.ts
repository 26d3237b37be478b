import type { SessionHeader, StoredAttribute } from '../../store.ts';

/** A record without its attributes' values. Its LMDB entry carries the record's version: the condition of every change. */
export interface Head {
  readonly sid: string;
  readonly header: SessionHeader;
  /** Name and version of each attribute. */
  readonly attributes: ReadonlyMap<string, number>;
}

export function encodeHead({ sid, header, attributes }: Head): Buffer {
  return Buffer.from(JSON.stringify([sid, header, [...attributes]]));
}

export function decodeHead(bytes: Buffer): Head {
  const [sid, header, attributes] = JSON.parse(bytes.toString()) as [string, SessionHeader, [string, number][]];
  return { sid, header, attributes: new Map(attributes) };
}

export function versionsOf(attributes: ReadonlyMap<string, StoredAttribute>): Map<string, number> {
  return new Map(Array.from(attributes, ([name, { version }]) => [name, version]));
}
