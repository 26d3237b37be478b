import { HoldfastError } from '../../base/errors.ts';
import { deepFreeze, freezeDate, freezeItself, freezeMap, freezeSet } from './deep-freeze.ts';
import { ERRORS, FORMAT_VERSION, LITTLE_ENDIAN, swapped, Tag, VIEWS } from './format.ts';
import { type DefinedType, SessionTypeUnknownError, typeNamed } from './type-registry.ts';

export interface DecodedValue {
  /** Deep-frozen, except for what `hasBytes` says. */
  readonly value: unknown;
  /**
   * True when it holds what cannot be frozen: the bytes of ArrayBuffers and typed arrays, or instances that a declared
   * class made itself, which may have state of their own. It must not be given to two readers.
   */
  readonly hasBytes: boolean;
}

/**
 * Decodes what `encodeValue` made.
 *
 * @param name The attribute's name, for errors.
 * @throws {SessionTypeUnknownError} ERR_SESSION_TYPE_UNKNOWN when it holds an instance of a class that this process
 * does not know, or of a newer version of it, or is as a whole in a newer format.
 * @throws {HoldfastError} ERR_SESSION_UNREADABLE when the bytes are something else, or a declared class cannot make its
 * instance of them.
 */
export function decodeValue(bytes: Uint8Array, name: string): DecodedValue {
  const decoder = new Decoder(bytes, name);
  return { value: decoder.decode(), hasBytes: decoder.hasBytes };
}

class Decoder {
  hasBytes = false;
  readonly #attribute: string;
  readonly #buffer: Buffer;
  #position = 0;

  constructor(bytes: Uint8Array, attribute: string) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#attribute = attribute;
  }

  decode(): unknown {
    try {
      return this.#whole();
    } catch (error) {
      if (error instanceof HoldfastError) throw error;
      // Some damage is found by the built-ins, as a length or an expression that cannot be.
      this.#fail(`is damaged where it is stored (${error instanceof Error ? error.message : 'unknown'})`, error);
    }
  }

  #whole(): unknown {
    const version = this.#byte();
    if (version > FORMAT_VERSION) {
      throw new SessionTypeUnknownError(
        this.#attribute,
        `format ${version}`,
        `is stored in format ${version}, which a newer release of Holdfast wrote; this one reads up to ${FORMAT_VERSION}: upgrade this process`,
      );
    }
    if (version !== FORMAT_VERSION) throw new TypeError(`format ${version}`);
    const value = this.#value();
    if (this.#position !== this.#buffer.length) throw new TypeError('bytes after its end');
    return value;
  }

  #value(): unknown {
    const tag = this.#byte();
    switch (tag) {
      case Tag.undefined:
        return undefined;
      case Tag.null:
        return null;
      case Tag.false:
        return false;
      case Tag.true:
        return true;
      case Tag.integer: {
        const folded = this.#unsigned();
        return (folded >>> 1) ^ -(folded & 1);
      }
      case Tag.double:
        return this.#double();
      case Tag.bigint:
        return parseBigInt(this.#value() as string);
      case Tag.latin1:
        return this.#text('latin1', this.#byte());
      case Tag.utf8:
        return this.#text('utf8', this.#unsigned());
      case Tag.utf16:
        return this.#text('utf16le', this.#unsigned());
      case Tag.array:
        return this.#array();
      case Tag.object:
        return this.#properties({});
      case Tag.nullObject:
        return this.#properties(Object.create(null));
      case Tag.map:
        return this.#map();
      case Tag.set:
        return this.#set();
      case Tag.date:
        return freezeDate(new Date(this.#double()));
      case Tag.regExp:
        return Object.freeze(new RegExp(this.#value() as string, this.#value() as string));
      case Tag.error:
        return this.#error();
      case Tag.arrayBuffer:
        return this.#arrayBuffer();
      case Tag.view:
        return this.#view();
      case Tag.instance:
        return this.#instance();
      default:
        throw new TypeError(`unknown tag ${tag}`);
    }
  }

  #array(): readonly unknown[] {
    const length = this.#count();
    const array: unknown[] = [];
    for (let index = 0; index < length; index++) array.push(this.#value());
    return Object.freeze(array);
  }

  #properties(object: Record<string, unknown>): object {
    const length = this.#count();
    for (let index = 0; index < length; index++) {
      const key = this.#value() as string;
      const value = this.#value();
      // An assignment to `__proto__` would change the prototype.
      if (key === '__proto__') Object.defineProperty(object, key, { value, enumerable: true });
      else object[key] = value;
    }
    return Object.freeze(object);
  }

  #instance(): object {
    const name = this.#value() as string;
    const version = this.#unsigned();
    const type = typeNamed(name);
    const quoted = JSON.stringify(name);
    if (!type) {
      const why = `holds a value of type ${quoted}, which this process does not know; declare it with defineType before sessions are read`;
      throw new SessionTypeUnknownError(this.#attribute, name, why);
    }
    if (version > type.version) {
      const why = `holds a value of type ${quoted} of version ${version}; this process knows up to ${type.version}: upgrade it`;
      throw new SessionTypeUnknownError(this.#attribute, name, why);
    }
    const kept = this.#value();
    return type.read ? this.#made(type, kept, version) : this.#restored(type, kept);
  }

  #restored({ name, prototype }: DefinedType, kept: unknown): object {
    if (typeof kept !== 'object' || kept === null || Object.getPrototypeOf(kept) !== Object.prototype) {
      this.#fail(
        `holds a value of type ${JSON.stringify(name)} that an earlier write function made; give read, or create, for it`,
      );
    }
    // Defined, not assigned: the prototype may have a setter of the same name.
    return Object.freeze(Object.create(prototype, Object.getOwnPropertyDescriptors(kept)));
  }

  #made({ name, prototype, read, write }: DefinedType, kept: unknown, version: number): object {
    this.hasBytes = true;
    let instance: unknown;
    try {
      instance = read!(kept, version);
    } catch (error) {
      this.#fail(
        `holds a value of which type ${JSON.stringify(name)} could not make an instance; see the cause`,
        error,
      );
    }
    if (typeof instance !== 'object' || instance === null || Object.getPrototypeOf(instance) !== prototype)
      this.#fail(
        `holds a value of which type ${JSON.stringify(name)} made something else than an instance of its class`,
      );
    if (typeof write !== 'function')
      for (const key of write.keep) deepFreeze((instance as Record<string | symbol, unknown>)[key]);
    freezeItself(instance);
    return instance;
  }

  #map(): ReadonlyMap<unknown, unknown> {
    const size = this.#count();
    const map = new Map<unknown, unknown>();
    for (let index = 0; index < size; index++) map.set(this.#value(), this.#value());
    return freezeMap(map);
  }

  #set(): ReadonlySet<unknown> {
    const size = this.#count();
    const set = new Set<unknown>();
    for (let index = 0; index < size; index++) set.add(this.#value());
    return freezeSet(set);
  }

  #error(): Error {
    const Kind = ERRORS[this.#byte()];
    if (!Kind) throw new TypeError('unknown kind of error');
    const error = new Kind(this.#value() as string);
    Object.defineProperty(error, 'stack', { value: this.#value(), writable: true, configurable: true });
    if (this.#byte() === 1)
      Object.defineProperty(error, 'cause', { value: this.#value(), writable: true, configurable: true });
    this.#byte();
    this.#properties(error as unknown as Record<string, unknown>);
    return error;
  }

  #arrayBuffer(): ArrayBuffer {
    this.hasBytes = true;
    return Uint8Array.from(this.#slice(this.#unsigned())).buffer;
  }

  #view(): ArrayBufferView {
    const code = this.#byte();
    const View = VIEWS[code];
    if (!View) throw new TypeError('unknown kind of typed array');
    const stored = this.#arrayBuffer();
    if (View === Buffer) return Buffer.from(stored);
    const buffer = LITTLE_ENDIAN ? stored : swapped(new Uint8Array(stored), code).buffer;
    return new (View as Uint8ArrayConstructor)(buffer as ArrayBuffer);
  }

  #fail(why: string, cause?: unknown): never {
    const message = `session attribute ${JSON.stringify(this.#attribute)} ${why}; it stays as it is until it is set or deleted`;
    throw new HoldfastError('ERR_SESSION_UNREADABLE', message, { cause });
  }

  #byte(): number {
    const byte = this.#buffer[this.#position++];
    if (byte === undefined) throw new TypeError('it ends too early');
    return byte;
  }

  #unsigned(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      if (factor > Number.MAX_SAFE_INTEGER) throw new TypeError('number without end');
    }
  }

  /** A number of members: each takes a byte or more, so damaged bytes cannot ask for more than there are. */
  #count(): number {
    const count = this.#unsigned();
    if (count > this.#buffer.length - this.#position) throw new TypeError('it ends too early');
    return count;
  }

  #double(): number {
    return this.#buffer.readDoubleLE(this.#skip(8));
  }

  #text(encoding: BufferEncoding, length: number): string {
    const start = this.#skip(length);
    return this.#buffer.toString(encoding, start, start + length);
  }

  #slice(length: number): Buffer {
    const start = this.#skip(length);
    return this.#buffer.subarray(start, start + length);
  }

  /** Moves past `length` bytes and returns where they start. */
  #skip(length: number): number {
    const start = this.#position;
    this.#position += length;
    if (this.#position > this.#buffer.length) throw new TypeError('it ends too early');
    return start;
  }
}

function parseBigInt(hex: string): bigint {
  return hex.startsWith('-') ? -BigInt(`0x${hex.slice(1)}`) : BigInt(`0x${hex}`);
}
