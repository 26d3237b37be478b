import { types } from 'node:util';
import { HoldfastError } from '../base/errors.ts';
import { freezeDate, freezeMap, freezeSet } from './deep-freeze.ts';

/*
 * A format of our own instead of v8.serialize, because one walk then checks and encodes (v8 silently turns a class instance into a plain
 * object), one walk decodes and freezes, and the bytes do not depend on the V8 version: processes on different Node versions may share a store.
 */

/** First byte of every encoded value. A reader refuses a version it does not know. */
const FORMAT_VERSION = 1;
/** Deeper nesting is refused: it is a mistake, and decoding must not exhaust the stack. */
const MAX_DEPTH = 200;

// Tags are part of the stored format: never reused for something else.
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
] as const;
const BUFFER_CODE = VIEWS.indexOf(Buffer);

/** What is kept of an error beside its own enumerable properties. */
const ERROR_FIELDS: ReadonlySet<string> = new Set(['message', 'stack', 'cause']);

const SHORT_TEXT = 24;
const INITIAL_BYTES = 1024;
const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/**
 * Encodes a value that `decodeValue` gives back equal: primitives, `undefined`, arrays, plain objects, Map, Set, Date, RegExp, the
 * built-in errors, ArrayBuffer, typed arrays, DataView and Buffer.
 *
 * Refused, with the path: functions, symbols, class instances, arrays with holes or named properties, objects that contain
 * themselves. An object reached by two ways is encoded twice and comes back as two equal ones. Getters are read;
 * properties that are not enumerable and a RegExp's `lastIndex` are left out.
 *
 * @param name The attribute's name: the beginning of the path in errors.
 * @throws {HoldfastError} ERR_SESSION_NOT_SERIALIZABLE with the path (`cart[3].onClick`); ERR_SESSION_TOO_LARGE when it takes more than `maxBytes`.
 */
export function encodeValue(name: string, value: unknown, maxBytes: number): Uint8Array {
  return new Encoder(name, maxBytes).encode(value);
}

export interface DecodedValue {
  /** Deep-frozen, except for the bytes of ArrayBuffers and typed arrays: the language cannot freeze them. */
  readonly value: unknown;
  /** True when it holds such bytes: it must not be given to two readers. */
  readonly hasBytes: boolean;
}

/** Decodes what `encodeValue` made. @throws {TypeError} when the bytes are something else. */
export function decodeValue(bytes: Uint8Array): DecodedValue {
  const decoder = new Decoder(bytes);
  return { value: decoder.decode(), hasBytes: decoder.hasBytes };
}

/** A property, an index, or what a Map or Set is asked for. */
type Step = string | number | { readonly text: string };

class Encoder {
  readonly #maxBytes: number;
  #buffer = Buffer.allocUnsafe(INITIAL_BYTES);
  #length = 0;
  /** The attribute's name, then one step per level: what an error names, and the containers that a cycle would meet again. */
  readonly #path: [name: string, ...Step[]];
  readonly #ancestors: object[] = [];

  constructor(name: string, maxBytes: number) {
    this.#path = [name];
    this.#maxBytes = maxBytes;
  }

  encode(value: unknown): Uint8Array {
    this.#byte(FORMAT_VERSION);
    this.#value(value);
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
    if (Array.isArray(value)) return this.#array(value);
    const prototype = Object.getPrototypeOf(value);
    if (prototype === null) return this.#properties(NULL_OBJECT, value);
    if (prototype === Object.prototype) return this.#properties(OBJECT, value);
    const depth = prototypesOf(value);
    // Depth instead of identity: values may come from another realm (vm, worker), where each built-in has a twin.
    if (depth === 1 && Object.hasOwn(prototype, 'isPrototypeOf')) return this.#properties(OBJECT, value);
    if (depth === 2 && types.isMap(value)) return this.#map(value);
    if (depth === 2 && types.isSet(value)) return this.#set(value);
    if (depth === 2 && types.isDate(value)) {
      this.#byte(DATE);
      return this.#double(value.getTime());
    }
    if (depth === 2 && types.isRegExp(value)) {
      this.#byte(REGEXP);
      this.#string(value.source);
      return this.#string(value.flags);
    }
    if (depth === 2 && types.isArrayBuffer(value)) return this.#bytes(ARRAY_BUFFER, new Uint8Array(value));
    if (ArrayBuffer.isView(value) && this.#view(value)) return;
    if (types.isNativeError(value) && this.#error(value)) return;
    this.#refuse(`is ${describe(value)}`);
  }

  #array(value: readonly unknown[]): void {
    const keys = Object.keys(value);
    if (keys.length < value.length) this.#refuse('is an array with holes');
    if (keys.length > value.length) this.#refuse(`is an array with the property ${keys.at(-1)}`);
    this.#byte(ARRAY);
    this.#unsigned(value.length);
    for (let index = 0; index < value.length; index++) this.#child(index, value[index]);
  }

  #properties(tag: number, value: object): void {
    if (Object.getOwnPropertySymbols(value).length > 0) this.#refuse('has a property whose key is a symbol');
    const keys = Object.keys(value);
    this.#byte(tag);
    this.#unsigned(keys.length);
    for (const key of keys) {
      this.#string(key);
      this.#child(key, (value as Record<string, unknown>)[key]);
    }
  }

  #map(map: ReadonlyMap<unknown, unknown>): void {
    this.#byte(MAP);
    this.#unsigned(map.size);
    let index = 0;
    for (const [key, value] of map) {
      this.#child({ text: `[key ${index}]` }, key);
      this.#child({ text: `[value ${index}]` }, value);
      index++;
    }
  }

  #set(set: ReadonlySet<unknown>): void {
    this.#byte(SET);
    this.#unsigned(set.size);
    let index = 0;
    for (const value of set) this.#child({ text: `[value ${index++}]` }, value);
  }

  #view(view: ArrayBufferView): boolean {
    const code = VIEWS.findLastIndex(
      View => Object.prototype.toString.call(view) === `[object ${tagOf(View)}]` && isDirect(view, View),
    );
    if (code === -1) return false;
    let bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const size = (VIEWS[code] as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT ?? 1;
    if (!LITTLE_ENDIAN) bytes = swapped(bytes, size);
    this.#byte(VIEW);
    this.#bytes(code, bytes);
    return true;
  }

  #error(error: Error): boolean {
    const code = ERRORS.findIndex(Kind => Kind.name === Object.getPrototypeOf(error).name);
    if (code === -1 || prototypesOf(error) !== (code === 0 ? 2 : 3)) return false;
    this.#byte(ERROR);
    this.#byte(code);
    this.#child('message', error.message);
    this.#child('stack', error.stack);
    this.#byte(Object.hasOwn(error, 'cause') ? 1 : 0);
    if (Object.hasOwn(error, 'cause')) this.#child('cause', error.cause);
    const extra = Object.entries(error).filter(([key]) => !ERROR_FIELDS.has(key));
    this.#properties(OBJECT, Object.fromEntries(extra));
    return true;
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
    if (!text.isWellFormed()) return this.#bytes(UTF16, Buffer.from(text, 'utf16le'));
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

  #refuse(why: string): never {
    throw new HoldfastError(
      'ERR_SESSION_NOT_SERIALIZABLE',
      `session attribute ${formatPath(this.#path)} ${why}, which a session cannot keep; store plain data`,
    );
  }
}

class Decoder {
  hasBytes = false;
  readonly #buffer: Buffer;
  #position = 0;

  constructor(bytes: Uint8Array) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  decode(): unknown {
    const version = this.#byte();
    if (version !== FORMAT_VERSION)
      throw new TypeError(`session value of format ${version}; this version reads ${FORMAT_VERSION}`);
    const value = this.#value();
    if (this.#position !== this.#buffer.length) throw new TypeError('session value with bytes after its end');
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
      default:
        throw new TypeError(`session value with the unknown tag ${tag}`);
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
    if (!Kind) throw new TypeError('session value with an unknown kind of error');
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
    if (!View) throw new TypeError('session value with an unknown kind of typed array');
    const size = (View as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT ?? 1;
    const stored = this.#arrayBuffer();
    if (code === BUFFER_CODE) return Buffer.from(stored);
    const buffer = LITTLE_ENDIAN ? stored : swapped(new Uint8Array(stored), size).buffer;
    return new (View as Uint8ArrayConstructor)(buffer as ArrayBuffer);
  }

  #byte(): number {
    const byte = this.#buffer[this.#position++];
    if (byte === undefined) throw new TypeError('session value that ends too early');
    return byte;
  }

  #unsigned(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  }

  /** A number of members: each takes a byte or more, so damaged bytes cannot ask for more than there are. */
  #count(): number {
    const count = this.#unsigned();
    if (count > this.#buffer.length - this.#position) throw new TypeError('session value that ends too early');
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
    if (this.#position > this.#buffer.length) throw new TypeError('session value that ends too early');
    return start;
  }
}

function prototypesOf(value: object): number {
  let depth = 0;
  for (let next = Object.getPrototypeOf(value); next !== null; next = Object.getPrototypeOf(next)) depth++;
  return depth;
}

function tagOf(View: (typeof VIEWS)[number]): string {
  return View === Buffer ? 'Uint8Array' : View.name;
}

/** True for an instance of the built-in itself, false for one of a subclass. */
function isDirect(view: ArrayBufferView, View: (typeof VIEWS)[number]): boolean {
  if (View === Buffer) return Buffer.isBuffer(view);
  return prototypesOf(view) === (View === DataView ? 2 : 3);
}

function swapped(bytes: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const copy = Uint8Array.from(bytes);
  for (let start = 0; start + size <= copy.length; start += size) copy.subarray(start, start + size).reverse();
  return copy;
}

function parseBigInt(hex: string): bigint {
  return hex.startsWith('-') ? -BigInt(`0x${hex.slice(1)}`) : BigInt(`0x${hex}`);
}

function describe(value: object): string {
  const name = value.constructor?.name;
  return name ? `an instance of ${name}` : 'an object with a prototype of its own';
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
