import { types } from 'node:util';
import { HoldfastError } from '../../base/errors.ts';
import { ERRORS, FORMAT_VERSION, LITTLE_ENDIAN, swapped, Tag, VIEWS } from './format.ts';
import { builtInName, classOf, type DefinedType, typeOf } from './type-registry.ts';

/** Deeper nesting is refused: it is a mistake, and decoding must not exhaust the stack. */
const MAX_DEPTH = 200;
const SHORT_TEXT = 24;
const INITIAL_BYTES = 1024;

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
        return this.#byte(value ? Tag.true : Tag.false);
      case 'undefined':
        return this.#byte(Tag.undefined);
      case 'bigint':
        this.#byte(Tag.bigint);
        return this.#string(value.toString(16));
      case 'object':
        return value === null ? this.#byte(Tag.null) : this.#nested(value);
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
    if (prototype === Object.prototype) return this.#properties(Tag.object, value);
    if (prototype === null) return this.#properties(Tag.nullObject, value);
    const type = typeOf(prototype);
    if (type) return this.#instance(value, type);
    // By name instead of identity: values may come from another realm (vm, worker), where each built-in has a twin.
    const kind = BUILT_INS.get(prototype) ?? builtInName(prototype) ?? '';
    if (kind === 'Object') return this.#properties(Tag.object, value);
    if (kind === 'Array' && Array.isArray(value)) return this.#array(value);
    if (kind === 'Map' && types.isMap(value)) return this.#map(value);
    if (kind === 'Set' && types.isSet(value)) return this.#set(value);
    if (kind === 'Date' && types.isDate(value)) return this.#date(value);
    if (kind === 'RegExp' && types.isRegExp(value)) return this.#regExp(value);
    if (kind === 'ArrayBuffer' && types.isArrayBuffer(value))
      return this.#bytes(Tag.arrayBuffer, new Uint8Array(value));
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
    this.#byte(Tag.array);
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
    this.#byte(Tag.instance);
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
    this.#named(Tag.object, instance, kept);
  }

  #map(map: ReadonlyMap<unknown, unknown>): void {
    this.#refuseProperties('a Map', map);
    const { size } = map;
    this.#byte(Tag.map);
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
    this.#byte(Tag.set);
    this.#unsigned(size);
    let index = 0;
    for (const value of set) this.#child({ text: `[value ${index++}]` }, value);
    if (index !== size) this.#refuse('is a Set that changed while it was read');
  }

  #date(date: Date): void {
    this.#refuseProperties('a Date', date);
    this.#byte(Tag.date);
    this.#double(date.getTime());
  }

  #regExp(expression: RegExp): void {
    this.#refuseProperties('a RegExp', expression);
    this.#byte(Tag.regExp);
    this.#string(expression.source);
    this.#string(expression.flags);
  }

  #view(view: ArrayBufferView, kind: string): void {
    const code = VIEW_CODES.get(kind)!;
    let bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    if (!LITTLE_ENDIAN) bytes = swapped(bytes, code);
    this.#byte(Tag.view);
    this.#bytes(code, bytes);
  }

  #error(error: Error, code: number): void {
    this.#refuseSymbols(error);
    this.#byte(Tag.error);
    this.#byte(code);
    this.#property('message', error);
    this.#property('stack', error);
    this.#byte(Object.hasOwn(error, 'cause') ? 1 : 0);
    if (Object.hasOwn(error, 'cause')) this.#property('cause', error);
    this.#named(
      Tag.object,
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
      this.#byte(Tag.integer);
      return this.#unsigned(((value << 1) ^ (value >> 31)) >>> 0);
    }
    this.#byte(Tag.double);
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
        buffer[this.#length] = Tag.latin1;
        buffer[this.#length + 1] = length;
        this.#length = at;
        return;
      }
    }
    // No text takes fewer bytes than it has units: a huge one is refused before anything looks at all of it.
    this.#checkSize(this.#length + length);
    if (!text.isWellFormed()) {
      this.#byte(Tag.utf16);
      this.#unsigned(length * 2);
      this.#reserve(length * 2);
      this.#length += this.#buffer.write(text, this.#length, 'utf16le');
      return;
    }
    const byteLength = Buffer.byteLength(text, 'utf8');
    this.#byte(Tag.utf8);
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
    const message = `session attribute ${JSON.stringify(this.#path[0])} takes more than ${this.#maxBytes} bytes; keep less in it, or raise maxAttributeSize`;
    throw new HoldfastError('ERR_SESSION_TOO_LARGE', message);
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

function codesOf(kinds: readonly { readonly name: string }[]): ReadonlyMap<string, number> {
  // Buffer is called by another name inside Node.
  return new Map(kinds.map((kind, code) => [kind === Buffer ? 'Buffer' : kind.name, code]));
}

/** What a typed array or DataView of this kind says of itself, whatever its prototype says. */
function tagOf(kind: string): string {
  return `[object ${kind === 'Buffer' ? 'Uint8Array' : kind}]`;
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
