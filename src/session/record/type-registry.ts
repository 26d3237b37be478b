import { HoldfastError } from '../../base/errors.ts';
import { checkOptions, type OptionNames } from '../../base/options.ts';
import type { DeepReadonly } from '../session.ts';

/** A class, also one that is abstract or whose constructor is private. */
export interface ClassOf<T> {
  readonly prototype: T;
  readonly name: string;
}

/** Keeps instances by their properties. */
export interface KeptProperties<T, K extends string = string> {
  /** Properties of an instance that are stored. One that an instance does not have is left out. */
  readonly keep: readonly K[];
  /**
   * Properties that are not stored: caches, back references. An instance that is read does not have them, unless
   * `create` makes them.
   */
  readonly transient?: readonly (string | symbol)[];
  /**
   * Makes the instance from what was kept, for classes whose constructor has to run. Without it no code of the class
   * runs: the instance gets its prototype and its properties. It may get less than `keep` says when an older release of
   * the application stored it.
   *
   * @param version The `version` under which it was stored.
   */
  readonly create?: (
    kept: { readonly [P in K]: P extends keyof T ? DeepReadonly<T[P]> : unknown },
    version: number,
  ) => T;
  readonly version?: number;
}

/** Keeps instances in a form of their own: for private `#fields`, and for classes that extend a built-in one. */
export interface KeptForm<T, F> {
  /** Anything that a session can hold, instances of other declared classes included. */
  readonly write: (instance: T) => F;
  /**
   * Makes a new instance from what `write` returned.
   *
   * @param version The `version` under which it was stored.
   */
  readonly read: (kept: DeepReadonly<F>, version: number) => T;
  /**
   * Grows when older releases of the application must not read what this one stores: they get ERR_SESSION_TYPE_UNKNOWN,
   * as for a class that they do not know. An integer from 1; default 1.
   */
  readonly version?: number;
}

const TYPE_OPTIONS: OptionNames<KeptProperties<object> & KeptForm<object, unknown>> = {
  keep: true,
  transient: true,
  create: true,
  version: 'number',
  write: true,
  read: true,
};

/** A class as `defineType` has checked it. */
export interface DefinedType {
  readonly name: string;
  readonly version: number;
  readonly prototype: object;
  /** How an instance becomes a value that is stored. */
  readonly write:
    | { readonly keep: ReadonlySet<string | symbol>; readonly transient: ReadonlySet<string | symbol> }
    | ((instance: object) => unknown);
  /** Makes an instance of what was stored; undefined: by prototype and properties. */
  readonly read: ((kept: unknown, version: number) => unknown) | undefined;
}

/**
 * A session attribute whose class this process does not know, or knows in an older version only: another release of the
 * application stored it.
 *
 * Only reading it fails. It is stored as it was, whatever else of the session changes.
 *
 * @example
 * import { isHoldfastError } from 'holdfast';
 *
 * try {
 *   session.get('price');
 * } catch (error) {
 *   // A release that knows the class has stored it.
 *   if (!isHoldfastError(error) || error.code !== 'ERR_SESSION_TYPE_UNKNOWN') throw error;
 * }
 */
export class SessionTypeUnknownError extends HoldfastError {
  /** The attribute's name. */
  readonly attribute: string;
  /** The name given to `defineType`; `format <n>` when the value as a whole is in a newer format of Holdfast's. */
  readonly type: string;

  constructor(attribute: string, type: string, why: string) {
    super('ERR_SESSION_TYPE_UNKNOWN', `session attribute ${JSON.stringify(attribute)} ${why}`);
    this.attribute = attribute;
    this.type = type;
  }
}

const MAX_NAME_LENGTH = 256;

/*
 * One registry per process, like the classes themselves: attributes are decoded by the first request, socket or sweep
 * that meets them, and a manager with types of its own could store what another one on the same store refuses.
 */
const byName = new Map<string, DefinedType>();
const byPrototype = new Map<object, DefinedType>();

/**
 * Lets sessions hold instances of a class of the application. Call it once per class, where the class is, in every
 * process that reads them.
 *
 * Every property of an instance must be named, in `keep` or in `transient`: `session.set` refuses an instance with
 * another one, so that nothing is lost unnoticed. What comes back has the class's prototype and is deep-frozen.
 * Subclasses are declared on their own.
 *
 * Give `write` and `read` instead for a class with private `#fields`, which nothing outside can see, or one that
 * extends Map, Set, Array, Date, Error or another built-in class. What `read` and `create` make is frozen itself, with
 * its kept properties; each reader gets its own.
 *
 * @param name Part of what is stored: it must stay the same when the class is renamed. Unique in the process; 1 to 256
 * characters.
 * @throws {TypeError} when the name or the class is declared already, or the class cannot be kept that way.
 *
 * @example
 * import { defineType } from 'holdfast/session';
 *
 * class Money {
 *   cents = 250;
 *   currency = 'EUR';
 * }
 * defineType('example.money', Money, { keep: ['cents', 'currency'] });
 * session.set('price', new Money());
 * console.log(session.get('price') instanceof Money); // true
 */
export function defineType<T extends object, const K extends string>(
  name: string,
  type: ClassOf<T>,
  options: KeptProperties<NoInfer<T>, K>,
): void;
export function defineType<T extends object, F>(name: string, type: ClassOf<T>, options: KeptForm<NoInfer<T>, F>): void;
export function defineType(
  name: string,
  type: ClassOf<object>,
  options: Partial<KeptProperties<object> & KeptForm<object, unknown>>,
): void {
  if (typeof name !== 'string' || name === '' || name.length > MAX_NAME_LENGTH)
    throw new TypeError(`name of a session type must be a text of 1 to ${MAX_NAME_LENGTH} characters`);
  const fail = (why: string): never => {
    throw new TypeError(`session type ${JSON.stringify(name)}: ${why}`);
  };
  const prototype = typeof type === 'function' ? (type as ClassOf<object>).prototype : undefined;
  if (typeof prototype !== 'object' || prototype === null) return fail('the second argument must be a class');
  const earlier = byPrototype.get(prototype);
  if (earlier) fail(`class ${type.name} is declared already, as ${JSON.stringify(earlier.name)}`);
  if (byName.has(name)) fail('the name is taken by another class; names are stored, so each must mean one class');

  checkOptions('defineType', options, TYPE_OPTIONS);
  const { version = 1, keep, transient = [], create, write, read } = options;
  if (!Number.isSafeInteger(version) || version < 1) fail(`version must be an integer from 1, not ${String(version)}`);
  const own = builtInName(prototype);
  if (own) fail(`${own} is built in; what sessions keep of built-in classes is settled`);
  const bases = prototypesOf(prototype);
  const common = { name, version, prototype };

  let defined: DefinedType;
  if (keep !== undefined) {
    if (write !== undefined || read !== undefined) fail('give either keep or write and read');
    if (!isListOf(keep, ['string'])) fail('keep must be a list of property names');
    if (!isListOf(transient, ['string', 'symbol'])) fail('transient must be a list of property names');
    if (create !== undefined && typeof create !== 'function') fail('create must be a function');
    const both = keep.find(key => transient.includes(key));
    if (both !== undefined) fail(`${JSON.stringify(both)} is named both in keep and in transient`);
    const builtIn = bases.map(builtInName).find(name => name !== undefined);
    if (builtIn) fail(`class ${type.name} extends ${builtIn}, whose content is not in properties; give write and read`);
    const hidden = create ? undefined : bases.map(privateMemberOf).find(member => member !== undefined);
    if (hidden)
      fail(
        `class ${type.name} has the private member ${hidden}, which cannot be seen from outside; give write and read, or create when the constructor makes it anew`,
      );
    defined = {
      ...common,
      write: { keep: new Set(keep), transient: new Set(transient) },
      read: create as DefinedType['read'],
    };
  } else {
    if (typeof write !== 'function' || typeof read !== 'function') fail('give keep, or both write and read');
    defined = { ...common, write: write!, read: read as DefinedType['read'] };
  }
  byName.set(name, defined);
  byPrototype.set(prototype, defined);
}

/** The declared class with this name. */
export function typeNamed(name: string): DefinedType | undefined {
  return byName.get(name);
}

/** The declared class with this prototype; undefined for subclasses of it. */
export function typeOf(prototype: object): DefinedType | undefined {
  return byPrototype.get(prototype);
}

/**
 * The name of the built-in class that has this prototype, of whichever realm (vm, worker); undefined for every other
 * object.
 */
export function builtInName(prototype: object): string | undefined {
  const Class = classOf(prototype);
  if (Class === Buffer) return 'Buffer';
  return Class && NATIVE.test(sourceOf(Class)) ? Class.name : undefined;
}

/** The class or constructor function that has this prototype. */
export function classOf(prototype: object): { readonly name: string } | undefined {
  const Class = Object.getOwnPropertyDescriptor(prototype, 'constructor')?.value;
  return typeof Class === 'function' && Class.prototype === prototype ? Class : undefined;
}

const NATIVE = /\{\s*\[native code\]\s*\}$/;
const COMMENT = /\/\*[\s\S]*?\*\/|\/\/.*/g;
/** A declaration such as `#total = 0` or `async *#load()`. Static ones are no matter: they are not of the instance. */
const PRIVATE_MEMBER =
  /[{};\n]\s*(?:(?:get|set|async)\s+|\*\s*)*(#[\p{ID_Start}$_][\p{ID_Continue}$]*)\s*(?:[=;(}\n]|$)/u;

/**
 * The first private member that the source of the class declares. The language has no way to ask: this reads the text,
 * and a compiler may have turned such members into something else. It is there to tell a mistake early.
 */
function privateMemberOf(prototype: object): string | undefined {
  const Class = classOf(prototype);
  return Class && PRIVATE_MEMBER.exec(sourceOf(Class).replace(COMMENT, ''))?.[1];
}

function sourceOf(fn: object): string {
  return Function.prototype.toString.call(fn);
}

/** It and those it inherits from, without the one that every object has. */
function prototypesOf(prototype: object): object[] {
  const all: object[] = [];
  for (let next = prototype; next !== null && next !== Object.prototype; next = Object.getPrototypeOf(next))
    all.push(next);
  return all;
}

function isListOf(list: unknown, kinds: readonly string[]): boolean {
  return Array.isArray(list) && list.every(item => kinds.includes(typeof item));
}
