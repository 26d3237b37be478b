import { types } from 'node:util';
import { HoldfastError } from '../../base/errors.ts';
import { deepFreeze, freezeDate, freezeItself, freezeMap, freezeSet } from './deep-freeze.ts';
import { builtInName, classOf, type DefinedType, SessionTypeUnknownError, typeNamed, typeOf } from './type-registry.ts';

/*
 * A format of our own instead of v8.serialize, because one walk then checks and encodes (v8 silently turns a class instance into a plain
 * object), one walk decodes and freezes, and the bytes do not depend on the V8 version: processes on different Node versions may share a store.
 */

/** First byte of every encoded value. A reader refuses a version it does not know. */
const FORMAT_VERSION = 1;
/** Deeper nesting is refused: it is a mistake, and decoding must not exhaust the stack. */
const MAX_DEPTH = 200;

// Tags are part of the stored format: never reused for something else. A new one takes a new format version, for the
// values that hold it.
const UNDEFINED = 0;
const NULL = 1;
const FALSE = 2;
const TRUE = 3;
const INTEGER = 4;
const DOUBLE = 5;
const BIGINT = 6;
const LATIN1 = 7;
const UTF8 = 8;
const UTF16 = 9;
const ARRAY = 10;
const OBJECT = 11;
const NULL_OBJECT = 12;
const MAP = 13;
const SET = 14;
const DATE = 15;
const REGEXP = 16;
const ERROR = 17;
const ARRAY_BUFFER = 18;
const VIEW = 19;
const INSTANCE = 20;

/** Index = code in the stored format. */
const ERRORS = [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError] as const;
/** Index = code in the stored format. */
const VIEWS = [
  Uint8Array,
  Uint8ClampedArray,
  Int8Array,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
  DataView,
  Buffer,
  Float16Array,
] as const;
const BUFFER_CODE = VIEWS.indexOf(Buffer);
const ERROR_CODES = codesOf(ERRORS);
const VIEW_CODES = codesOf(VIEWS);
/** By their prototypes, so that the usual values need no closer look. */
const BUILT_INS: ReadonlyMap<object, string> = new Map(
  [Object, Array, Map, Set, Date, RegExp, ArrayBuffer, ...ERRORS, ...VIEWS].map(Kind => [
    Kind.prototype,
    Kind === Buffer ? 'Buffer' : Kind.name,
  ]),
);

/** What is kept of an error beside its own enumerable properties. */
const ERROR_FIELDS: ReadonlySet<string> = new Set(['message', 'stack', 'cause']);

const SHORT_TEXT = 24;
const INITIAL_BYTES = 1024;
const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/**
 * Encodes a value that `decodeValue` gives back equal: primitives, `undefined`, arrays, plain objects, Map, Set, Date,
 * RegExp, the built-in errors (but AggregateError), ArrayBuffer, typed arrays, DataView, Buffer, and instances of
 * classes declared by `defineType`.
 *
 * Refused, with the path: functions, symbols, instances of other classes (subclasses of declared and built-in ones
 * too), arrays with holes, arrays, Maps, Sets, Dates and RegExps with properties of their own, objects that contain
 * themselves. An object reached by two ways is encoded twice and comes back as two equal ones. Getters are read, a
 * Proxy of plain data is seen through; properties that are not enumerable and a RegExp's `lastIndex` are left out, and
 * so are properties that somebody gave to a typed array.
 *
 * @param name The attribute's name: the beginning of the path in errors.
 * @throws {HoldfastError} ERR_SESSION_NOT_SERIALIZABLE with the path (`cart[3].onClick`); ERR_SESSION_TOO_LARGE when it
 * takes more than `maxBytes`.
 */
export function encodeValue(name: string, value: unknown, maxBytes: number): Uint8Array {
  return new Encoder(name, maxBytes).encode(value);
}

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

/** A property, an index, or what a Map or Set is asked for. */
type Step = string | number | { readonly text: string };

class Encoder {
  readonly #maxBytes: number;
  #buffer = Buffer.allocUnsafe(INITIAL_BYTES);
  #length = 0;
  /**
   * The attribute's name, then one step per level: what an error names, and the containers that a cycle would meet
   * again.
   */
  readonly #path: [name: string, ...Step[]];
  readonly #ancestors: object[] = [];

  constructor(name: string, maxBytes: number) {
    this.#path = [name];
    this.#maxBytes = maxBytes;
  }

  encode(value: unknown): Uint8Array {
    this.#byte(FORMAT_VERSION);
    try {
      this.#value(value);
    } catch (error) {
      if (error instanceof HoldfastError) throw error;
      // The path was left where the application's code threw.
      this.#fail('could not be read: a getter, a proxy or the write function of its class threw; see the cause', error);
    }
    this.#checkSize();
    return new Uint8Array(this.#buffer.subarray(0, this.#length));
  }

  #value(value: unknown): void {
    switch (typeof value) {
      case 'string':
        return this.#string(value);
      case 'number':
        return this.#number(value);
      case 'boolean':
        return this.#byte(value ? TRUE : FALSE);
      case 'undefined':
        return this.#byte(UNDEFINED);
      case 'bigint':
        this.#byte(BIGINT);
        return this.#string(value.toString(16));
      case 'object':
        return value === null ? this.#byte(NULL) : this.#nested(value);
      default:
        this.#refuse(`is a ${typeof value}`);
    }
  }

  #nested(value: object): void {
    if (this.#ancestors.includes(value)) this.#refuse('contains itself');
    if (this.#ancestors.length === MAX_DEPTH) this.#refuse(`is nested deeper than ${MAX_DEPTH} levels`);
    this.#ancestors.push(value);
    this.#object(value);
    this.#ancestors.pop();
  }

  #object(value: object): void {
    const prototype = Object.getPrototypeOf(value);
    if (prototype === Object.prototype) return this.#properties(OBJECT, value);
    if (prototype === null) return this.#properties(NULL_OBJECT, value);
    const type = typeOf(prototype);
    if (type) return this.#instance(value, type);
    // By name instead of identity: values may come from another realm (vm, worker), where each built-in has a twin.
    const kind = BUILT_INS.get(prototype) ?? builtInName(prototype) ?? '';
    if (kind === 'Object') return this.#properties(OBJECT, value);
    if (kind === 'Array' && Array.isArray(value)) return this.#array(value);
    if (kind === 'Map' && types.isMap(value)) return this.#map(value);
    if (kind === 'Set' && types.isSet(value)) return this.#set(value);
    if (kind === 'Date' && types.isDate(value)) return this.#date(value);
    if (kind === 'RegExp' && types.isRegExp(value)) return this.#regExp(value);
    if (kind === 'ArrayBuffer' && types.isArrayBuffer(value)) return this.#bytes(ARRAY_BUFFER, new Uint8Array(value));
    if (ArrayBuffer.isView(value) && Object.prototype.toString.call(value) === tagOf(kind))
      return this.#view(value, kind);
    const errorCode = ERROR_CODES.get(kind);
    if (errorCode !== undefined && types.isNativeError(value)) return this.#error(value, errorCode);
    this.#refuse(...describe(value, prototype));
  }

  #array(value: readonly unknown[]): void {
    const keys = Object.keys(value);
    const { length } = value;
    if (keys.length < length) this.#refuse('is an array with holes');
    if (keys.length > length) this.#refuse(`is an array with the property ${keys.at(-1)}`);
    this.#refuseSymbols(value);
    this.#byte(ARRAY);
    this.#unsigned(length);
    for (let index = 0; index < length; index++) this.#property(index, value);
  }

  #properties(tag: number, value: object): void {
    this.#refuseSymbols(value);
    this.#named(tag, value, Object.keys(value));
  }

  #named(tag: number, value: object, keys: readonly string[]): void {
    this.#byte(tag);
    this.#unsigned(keys.length);
    for (const key of keys) {
      this.#string(key);
      this.#property(key, value);
    }
  }

  #instance(instance: object, { name, version, write }: DefinedType): void {
    this.#byte(INSTANCE);
    this.#string(name);
    this.#unsigned(version);
    if (typeof write === 'function') {
      this.#path.push({ text: `<${name}>` });
      this.#value(write(instance));
      this.#path.pop();
      return;
    }
    const kept: string[] = [];
    // Not the enumerable ones only: what a constructor hides may matter just as much.
    for (const key of Reflect.ownKeys(instance)) {
      if (typeof key === 'string' && write.keep.has(key)) kept.push(key);
      else if (!write.transient.has(key)) this.#refuseUnnamed(key, name);
    }
    this.#named(OBJECT, instance, kept);
  }

  #map(map: ReadonlyMap<unknown, unknown>): void {
    this.#refuseProperties('a Map', map);
    const { size } = map;
    this.#byte(MAP);
    this.#unsigned(size);
    let index = 0;
    for (const [key, value] of map) {
      this.#child({ text: `[key ${index}]` }, key);
      this.#child({ text: `[value ${index}]` }, value);
      index++;
    }
    if (index !== size) this.#refuse('is a Map that changed while it was read');
  }

  #set(set: ReadonlySet<unknown>): void {
    this.#refuseProperties('a Set', set);
    const { size } = set;
    this.#byte(SET);
    this.#unsigned(size);
    let index = 0;
    for (const value of set) this.#child({ text: `[value ${index++}]` }, value);
    if (index !== size) this.#refuse('is a Set that changed while it was read');
  }

  #date(date: Date): void {
    this.#refuseProperties('a Date', date);
    this.#byte(DATE);
    this.#double(date.getTime());
  }

  #regExp(expression: RegExp): void {
    this.#refuseProperties('a RegExp', expression);
    this.#byte(REGEXP);
    this.#string(expression.source);
    this.#string(expression.flags);
  }

  #view(view: ArrayBufferView, kind: string): void {
    const code = VIEW_CODES.get(kind)!;
    let bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const size = (VIEWS[code] as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT ?? 1;
    if (!LITTLE_ENDIAN) bytes = swapped(bytes, size);
    this.#byte(VIEW);
    this.#bytes(code, bytes);
  }

  #error(error: Error, code: number): void {
    this.#refuseSymbols(error);
    this.#byte(ERROR);
    this.#byte(code);
    this.#property('message', error);
    this.#property('stack', error);
    this.#byte(Object.hasOwn(error, 'cause') ? 1 : 0);
    if (Object.hasOwn(error, 'cause')) this.#property('cause', error);
    this.#named(
      OBJECT,
      error,
      Object.keys(error).filter(key => !ERROR_FIELDS.has(key)),
    );
  }

  #property(key: string | number, object: object): void {
    // The step comes first: the property may be a getter that throws.
    this.#path.push(key);
    this.#value((object as Record<string | number, unknown>)[key]);
    this.#path.pop();
  }

  #child(step: Step, value: unknown): void {
    this.#path.push(step);
    this.#value(value);
    this.#path.pop();
  }

  #number(value: number): void {
    if ((value | 0) === value && !Object.is(value, -0)) {
      this.#byte(INTEGER);
      return this.#unsigned(((value << 1) ^ (value >> 31)) >>> 0);
    }
    this.#byte(DOUBLE);
    this.#double(value);
  }

  #string(text: string): void {
    const { length } = text;
    if (length <= SHORT_TEXT) {
      this.#reserve(length + 2);
      const buffer = this.#buffer;
      let at = this.#length + 2;
      let index = 0;
      for (; index < length; index++) {
        const code = text.charCodeAt(index);
        if (code > 0xff) break;
        buffer[at++] = code;
      }
      if (index === length) {
        buffer[this.#length] = LATIN1;
        buffer[this.#length + 1] = length;
        this.#length = at;
        return;
      }
    }
    // No text takes fewer bytes than it has units: a huge one is refused before anything looks at all of it.
    this.#checkSize(this.#length + length);
    if (!text.isWellFormed()) {
      this.#byte(UTF16);
      this.#unsigned(length * 2);
      this.#reserve(length * 2);
      this.#length += this.#buffer.write(text, this.#length, 'utf16le');
      return;
    }
    const byteLength = Buffer.byteLength(text, 'utf8');
    this.#byte(UTF8);
    this.#unsigned(byteLength);
    this.#reserve(byteLength);
    this.#length += this.#buffer.write(text, this.#length, 'utf8');
  }

  #bytes(tag: number, bytes: Uint8Array): void {
    this.#byte(tag);
    this.#unsigned(bytes.length);
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #byte(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#length++] = value;
  }

  /** LEB128. */
  #unsigned(value: number): void {
    while (value > 0x7f) {
      this.#byte((value % 128) | 0x80);
      value = Math.floor(value / 128);
    }
    this.#byte(value);
  }

  #double(value: number): void {
    this.#reserve(8);
    this.#length = this.#buffer.writeDoubleLE(value, this.#length);
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#buffer.length) return;
    this.#checkSize(needed);
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }

  #checkSize(length = this.#length): void {
    if (length <= this.#maxBytes) return;
    throw new HoldfastError(
      'ERR_SESSION_TOO_LARGE',
      `session attribute ${JSON.stringify(this.#path[0])} takes more than ${this.#maxBytes} bytes; keep less in it, or raise maxAttributeSize`,
    );
  }

  #refuseProperties(kind: string, value: object): void {
    const [key] = Object.keys(value);
    if (key !== undefined) this.#refuse(`is ${kind} with the property ${key}`);
    this.#refuseSymbols(value);
  }

  #refuseSymbols(value: object): void {
    if (Object.getOwnPropertySymbols(value).length > 0) this.#refuse('has a property whose key is a symbol');
  }

  #refuseUnnamed(key: string | symbol, type: string): never {
    this.#path.push(typeof key === 'string' ? key : { text: `[${String(key)}]` });
    this.#fail(
      `is a property that session type ${JSON.stringify(type)} names neither in keep nor in transient; name it in one of them`,
    );
  }

  #refuse(why: string, remedy = 'store plain data'): never {
    this.#fail(`${why}, which a session cannot keep; ${remedy}`);
  }

  #fail(why: string, cause?: unknown): never {
    throw new HoldfastError('ERR_SESSION_NOT_SERIALIZABLE', `session attribute ${formatPath(this.#path)} ${why}`, {
      cause,
    });
  }
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
      case UNDEFINED:
        return undefined;
      case NULL:
        return null;
      case FALSE:
        return false;
      case TRUE:
        return true;
      case INTEGER: {
        const folded = this.#unsigned();
        return (folded >>> 1) ^ -(folded & 1);
      }
      case DOUBLE:
        return this.#double();
      case BIGINT:
        return parseBigInt(this.#value() as string);
      case LATIN1:
        return this.#text('latin1', this.#byte());
      case UTF8:
        return this.#text('utf8', this.#unsigned());
      case UTF16:
        return this.#text('utf16le', this.#unsigned());
      case ARRAY:
        return this.#array();
      case OBJECT:
        return this.#properties({});
      case NULL_OBJECT:
        return this.#properties(Object.create(null));
      case MAP:
        return this.#map();
      case SET:
        return this.#set();
      case DATE:
        return freezeDate(new Date(this.#double()));
      case REGEXP:
        return Object.freeze(new RegExp(this.#value() as string, this.#value() as string));
      case ERROR:
        return this.#error();
      case ARRAY_BUFFER:
        return this.#arrayBuffer();
      case VIEW:
        return this.#view();
      case INSTANCE:
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
    const size = (View as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT ?? 1;
    const stored = this.#arrayBuffer();
    if (code === BUFFER_CODE) return Buffer.from(stored);
    const buffer = LITTLE_ENDIAN ? stored : swapped(new Uint8Array(stored), size).buffer;
    return new (View as Uint8ArrayConstructor)(buffer as ArrayBuffer);
  }

  #fail(why: string, cause?: unknown): never {
    throw new HoldfastError(
      'ERR_SESSION_UNREADABLE',
      `session attribute ${JSON.stringify(this.#attribute)} ${why}; it stays as it is until it is set or deleted`,
      { cause },
    );
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

function codesOf(kinds: readonly { readonly name: string }[]): ReadonlyMap<string, number> {
  // Buffer is called by another name inside Node.
  return new Map(kinds.map((kind, code) => [kind === Buffer ? 'Buffer' : kind.name, code]));
}

/** What a typed array or DataView of this kind says of itself, whatever its prototype says. */
function tagOf(kind: string): string {
  return `[object ${kind === 'Buffer' ? 'Uint8Array' : kind}]`;
}

function swapped(bytes: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const copy = Uint8Array.from(bytes);
  for (let start = 0; start + size <= copy.length; start += size) copy.subarray(start, start + size).reverse();
  return copy;
}

function parseBigInt(hex: string): bigint {
  return hex.startsWith('-') ? -BigInt(`0x${hex.slice(1)}`) : BigInt(`0x${hex}`);
}

/** What a value of no kind that can be kept is, and what to do about it when there is something. */
function describe(value: object, prototype: object): [why: string, remedy?: string] {
  if (types.isProxy(value)) return ['is a Proxy'];
  const name = classOf(prototype)?.name;
  if (!name) return ['is an object with a prototype of its own'];
  if (builtInName(prototype)) return [`is an instance of ${name}`];
  const remedy = `store plain data, or declare the class: defineType('${name}', ${name}, …)`;
  for (let base = Object.getPrototypeOf(prototype); base !== null; base = Object.getPrototypeOf(base)) {
    if (typeOf(base))
      return [`is an instance of ${name}, a subclass of ${classOf(base)?.name} that is not declared itself`, remedy];
  }
  return [`is an instance of ${name}`, remedy];
}

/** `cart`, 3, `onClick` → `cart[3].onClick`. */
function formatPath([name, ...steps]: readonly [name: string, ...Step[]]): string {
  return name + steps.map(formatStep).join('');
}

function formatStep(step: Step): string {
  if (typeof step === 'object') return step.text;
  if (typeof step === 'number') return `[${step}]`;
  return /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`;
}
