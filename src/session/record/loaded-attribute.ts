import { HoldfastError } from '../../base/errors.ts';
import type { StoredAttribute } from '../store.ts';
import { decodeValue } from './decoder.ts';
import type { ReadValue } from './snapshot.ts';

/** The value of an attribute that lies apart, for those who have loaded it; decoded once. */
export class LoadedAttribute implements StoredAttribute {
  readonly value: Uint8Array;
  readonly version: number;
  #read: ReadValue | undefined;

  constructor({ value, version }: StoredAttribute) {
    this.value = value;
    this.version = version;
  }

  /** @throws {HoldfastError} as `decodeValue`. */
  read(name: string): ReadValue {
    if (this.#read) return this.#read;
    const { value, hasBytes } = decodeValue(this.value, name);
    const read = { value, isOwn: hasBytes };
    // Each reader gets its own bytes, so that none sees what another did to them.
    if (!hasBytes) this.#read = read;
    return read;
  }
}

export function notLoaded(name: string): HoldfastError {
  const quoted = JSON.stringify(name);
  return new HoldfastError(
    'ERR_SESSION_NOT_LOADED',
    `the session attribute ${quoted} lies apart and was not loaded; write await session.load(${quoted}) before get, or name it in "attributes" of the route, of attachSession or of peek`,
  );
}
