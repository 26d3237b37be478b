import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { decodeValue } from '../../src/session/record/decoder.ts';
import { encodeValue } from '../../src/session/record/encoder.ts';

const MAX = 1024 * 1024;

function roundTrip<T>(value: T): T {
  return decodeValue(encodeValue('cart', value, MAX), 'cart').value as T;
}

/** Makes values of every kind, nested up to `depth` levels, the same ones for the same seed. */
function randomValues(seed: number): (depth: number) => unknown {
  let state = seed * 7919 + 1;
  // Park and Miller's generator.
  const below = (limit: number) => {
    state = (state * 48271) % 2147483647;
    return state % limit;
  };
  const many = <T>(make: () => T) => Array.from({ length: below(5) }, make);
  const UNITS = ['a', 'Z', '0', '\0', '"', 'é', '€', '😀', '\ud800', '\udfff', '__proto__', 'x'.repeat(20)];
  const text = () => many(() => UNITS[below(UNITS.length)]!).join('');
  const numbers = [0, -0, 1.5, Number.NaN, Infinity, -Infinity, 2 ** 53, 5e-324, 2 ** 31, -(2 ** 31)];
  const flat: (() => unknown)[] = [
    () => [null, undefined, true, false][below(4)],
    () => numbers[below(numbers.length)],
    () => (below(2 ** 30) - 2 ** 29) / (below(4) || 1),
    () => BigInt(below(2 ** 30) - 2 ** 29) ** BigInt(below(6)),
    text,
    () => new Date(below(2 ** 31) * 1000 - 2 ** 40),
    () => new RegExp(['a+', '[xy]\\/', '', '(?<n>.)'][below(4)]!, ['', 'gi', 'u', 'v'][below(4)]),
    () => Uint8Array.from(many(() => below(256))),
    () => Float64Array.from(many(() => below(100) / 7)),
    () => BigInt64Array.from(many(() => BigInt(below(100) - 50))),
    () => Buffer.from(text()),
    () => new DataView(new ArrayBuffer(below(9))),
    () => Object.assign(new RangeError(text()), { code: text() }),
  ];
  const make = (depth: number): unknown => {
    const inner = () => make(depth - 1);
    const nested: (() => unknown)[] = [
      () => many(inner),
      () => Object.fromEntries(many(() => [text(), inner()])),
      () => Object.setPrototypeOf(Object.fromEntries(many(() => [text(), inner()])), null),
      () => new Map(many(() => [inner(), inner()])),
      () => new Set(many(inner)),
      () => new Error(text(), { cause: inner() }),
    ];
    const kinds = depth > 0 && below(2) === 0 ? nested : flat;
    return kinds[below(kinds.length)]!();
  };
  return make;
}

class Money {
  amount = 1;
}
class Cart extends Map {}

describe('values that come back equal', () => {
  test.each([
    ['null', null],
    ['booleans', [true, false]],
    ['undefined inside', { a: undefined, b: [undefined] }],
    ['integers', [0, 1, -1, 63, 64, -64, -65, 2 ** 31 - 1, -(2 ** 31), 2 ** 31, 2 ** 53]],
    ['fractions and limits', [0.1, -1.5, Number.MAX_VALUE, Number.MIN_VALUE, Number.NaN, Infinity, -Infinity]],
    ['strings', ['', 'a', 'é', '€', '😀', 'x'.repeat(24), 'é'.repeat(25), '\0', '\ud800', `${'x'.repeat(300)}\udc00`]],
    ['bigints', [0n, 1n, -1n, 2n ** 200n, -(2n ** 200n)]],
    ['nested objects', { a: { b: [{ c: 1 }] }, 'a b': 2, '': 3 }],
    [
      'a Map',
      new Map<unknown, unknown>([
        ['a', 1],
        [{ key: 1 }, new Map()],
        [1, [2]],
      ]),
    ],
    ['a Set', new Set(['a', 1, new Set([2])])],
    ['Dates', [new Date(0), new Date(1.7e12), new Date(-1)]],
    ['RegExps', [/a+/gi, /\//u, /(?<name>x)/v]],
    ['bytes', [new Uint8Array([1, 2, 3]), new Uint8Array(0), Buffer.from('abc'), new Float64Array([0.5, -1])]],
    [
      'every typed array',
      [
        new Int8Array([-1]),
        new Uint8ClampedArray([255]),
        new Int16Array([-2]),
        new Uint16Array([2]),
        new Int32Array([-3]),
        new Uint32Array([3]),
        new Float32Array([0.5]),
        new BigInt64Array([-4n]),
        new BigUint64Array([4n]),
        new Float16Array([0.5, -2]),
      ],
    ],
    ['an ArrayBuffer and a DataView', [new Uint8Array([1, 2]).buffer, new DataView(new ArrayBuffer(4))]],
  ])('%s', (_what, value) => {
    expect(roundTrip(value)).toStrictEqual(value);
  });

  test('minus zero and an invalid date', () => {
    expect(Object.is(roundTrip(-0), -0)).toBe(true);
    expect(roundTrip(new Date(Number.NaN)).getTime()).toBeNaN();
  });

  test('errors with their kind, message, stack, cause and properties', () => {
    const error = Object.assign(new RangeError('too far', { cause: new Error('why') }), { code: 'E_FAR', list: [1] });
    const back = roundTrip(error);
    expect(back).toBeInstanceOf(RangeError);
    expect(back).toMatchObject({
      name: 'RangeError',
      message: 'too far',
      code: 'E_FAR',
      list: [1],
      stack: error.stack,
    });
    expect(back.cause).toStrictEqual(new Error('why'));
    expect(Object.keys(back)).toEqual(['code', 'list']);
  });

  test('a part of a larger buffer, and only that part', () => {
    const whole = new Uint16Array([1, 2, 3, 4]);
    expect(roundTrip(whole.subarray(1, 3))).toStrictEqual(new Uint16Array([2, 3]));
  });

  test('an object without a prototype', () => {
    const value = Object.assign(Object.create(null), { a: 1 });
    expect(Object.getPrototypeOf(roundTrip(value))).toBe(null);
    expect({ ...roundTrip(value) }).toEqual({ a: 1 });
  });

  test('keys such as __proto__, as keys', () => {
    const value = JSON.parse('{"__proto__":{"isAdmin":true},"constructor":1,"toString":2}');
    const back = roundTrip(value);
    expect(Object.keys(back)).toEqual(['__proto__', 'constructor', 'toString']);
    expect(Object.getPrototypeOf(back)).toBe(Object.prototype);
    expect(back.isAdmin).toBeUndefined();
    expect(({} as { isAdmin?: boolean }).isAdmin).toBeUndefined();
  });

  test('an object reached by two ways, as two equal ones', () => {
    const shared = { x: 1 };
    const back = roundTrip([shared, shared]);
    expect(back).toEqual([{ x: 1 }, { x: 1 }]);
    expect(back[0]).not.toBe(back[1]);
  });

  test('values of another realm', () => {
    const foreign = runInNewContext(
      '({ a: [1], m: new Map([[1, 2]]), s: new Set([1]), d: new Date(5), r: /x/g, u: new Uint8Array([7]) })',
    );
    const expected = { a: [1], m: new Map([[1, 2]]), s: new Set([1]), d: new Date(5), r: /x/g, u: new Uint8Array([7]) };
    expect(roundTrip(foreign)).toStrictEqual(expected);
  });

  test('what getters give, and what a Proxy of plain data shows', () => {
    const value = {
      get total() {
        return 5;
      },
      list: new Proxy([1, 2], {}),
    };
    expect(roundTrip(value)).toStrictEqual({ total: 5, list: [1, 2] });
  });

  test('a text of 50 MB', () => {
    const text = 'x'.repeat(50_000_000);
    expect(decodeValue(encodeValue('a', text, 60_000_000), 'a').value === text).toBe(true);
  });

  test.each(Array.from({ length: 20 }, (_, seed) => seed))('300 random values, seed %i', seed => {
    const random = randomValues(seed);
    for (let round = 0; round < 300; round++) {
      const value = random(5);
      const bytes = encodeValue('cart', value, MAX);
      const back = decodeValue(bytes, 'cart').value;
      expect(back).toStrictEqual(value);
      expect(Buffer.compare(encodeValue('cart', back, MAX), bytes)).toBe(0);
    }
  });

  test('what was read from a session', () => {
    const value = { at: new Date(5), map: new Map([[1, new Set([2])]]), bytes: new Uint8Array([1]), list: [/x/] };
    expect(roundTrip(roundTrip(value))).toStrictEqual(value);
  });
});

function growing(): Map<number, unknown> {
  const map = new Map<number, unknown>();
  let reads = 0;
  const entry = {
    get value() {
      if (reads++ === 0) map.set(2, 0);
      return 1;
    },
  };
  return map.set(1, entry);
}

describe('values that cannot be kept', () => {
  const cyclic: Record<string, unknown> = { list: [{}] };
  (cyclic.list as Record<string, unknown>[])[0]!.back = cyclic;
  const deep = JSON.parse('['.repeat(1000) + ']'.repeat(1000));
  const holes = [1, 2, 3];
  delete holes[1];

  test.each([
    ['a function', [1, 2, 3, { onClick() {} }], 'cart[3].onClick is a function'],
    ['a symbol', { a: Symbol('x') }, 'cart.a is a symbol'],
    ['a key that is a symbol', { a: { [Symbol('x')]: 1 } }, 'cart.a has a property whose key is a symbol'],
    ['an instance of a class', { total: new Money() }, 'cart.total is an instance of Money'],
    ['an instance of a subclass of a built-in', [new Cart()], 'cart[0] is an instance of Cart'],
    ['a promise', { p: Promise.resolve() }, 'cart.p is an instance of Promise'],
    ['a WeakMap', new WeakMap(), 'cart is an instance of WeakMap'],
    ['a boxed string', [new String('x')], 'cart[0] is an instance of String'],
    ['an error of a class', new (class OwnError extends Error {})('x'), 'cart is an instance of OwnError'],
    ['an object with a prototype of its own', Object.create({ a: 1 }), 'cart is an object with a prototype of its own'],
    ['a cycle', cyclic, 'cart.list[0].back contains itself'],
    ['an array with holes', { list: holes }, 'cart.list is an array with holes'],
    ['a very long array of nothing', [new Array(4e9)], 'cart[0] is an array with holes'],
    ['an array with a property', Object.assign([1], { extra: 1 }), 'cart is an array with the property extra'],
    ['what is in a Map', new Map([['k', () => {}]]), 'cart[value 0] is a function'],
    ['a key of a Map', new Map([[() => {}, 1]]), 'cart[key 0] is a function'],
    ['what is in a Set', { s: new Set([1, () => {}]) }, 'cart.s[value 1] is a function'],
    ['a key that needs quotes', { 'a b': [() => {}] }, 'cart["a b"][0] is a function'],
    ['the cause of an error', new Error('x', { cause: () => {} }), 'cart.cause is a function'],
    ['a property of a Map', { m: Object.assign(new Map(), { extra: 1 }) }, 'cart.m is a Map with the property extra'],
    ['a property of a Set', Object.assign(new Set(), { extra: 1 }), 'cart is a Set with the property extra'],
    ['a property of a Date', Object.assign(new Date(5), { extra: 1 }), 'cart is a Date with the property extra'],
    ['a property of a RegExp', Object.assign(/x/, { extra: 1 }), 'cart is a RegExp with the property extra'],
    [
      'a symbol of an array',
      [Object.assign([1], { [Symbol('x')]: 1 })],
      'cart[0] has a property whose key is a symbol',
    ],
    ['a symbol of a Map', Object.assign(new Map(), { [Symbol('x')]: 1 }), 'cart has a property whose key is a symbol'],
    ['a Proxy of a Map', { p: new Proxy(new Map(), {}) }, 'cart.p is a Proxy'],
    ['a global object', [Math], 'cart[0] has a property whose key is a symbol'],
    ['an AggregateError', new AggregateError([]), 'cart is an instance of AggregateError'],
    ['a class of another realm', runInNewContext('new (class Money {})'), 'cart is an instance of Money'],
    ['a Map that a getter in it changes', growing(), 'cart is a Map that changed while it was read'],
    ['nesting without end', deep, 'is nested deeper than 200 levels'],
  ])('%s is refused by its path', (_what, value, path) => {
    expect(() => encodeValue('cart', value, MAX)).toThrow(
      expect.objectContaining({ code: 'ERR_SESSION_NOT_SERIALIZABLE', message: expect.stringContaining(path) }),
    );
  });

  test('a getter or Proxy that throws is refused by its path, with what it threw', () => {
    const cause = new Error('not now');
    const fail = () => {
      throw cause;
    };
    const list = [{ a: Object.defineProperty({}, 'total', { get: fail, enumerable: true }) }];
    const text = 'cart[0].a.total could not be read';
    expect(() => encodeValue('cart', list, MAX)).toThrow(
      expect.objectContaining({ code: 'ERR_SESSION_NOT_SERIALIZABLE', message: expect.stringContaining(text), cause }),
    );
    const proxy = { p: new Proxy({}, { ownKeys: fail }) };
    expect(() => encodeValue('cart', proxy, MAX)).toThrow(expect.objectContaining({ cause }));
  });

  test.each([
    ['of ASCII', 'x'.repeat(50_000_000)],
    ['of other letters', '€'.repeat(20_000_000)],
    ['with half a character', `${'x'.repeat(50_000_000)}\ud800`],
  ])('a huge text %s is refused before it is copied', (_what, text) => {
    const before = process.memoryUsage().arrayBuffers;
    expect(() => encodeValue('cart', { text }, MAX)).toThrow(
      expect.objectContaining({ code: 'ERR_SESSION_TOO_LARGE' }),
    );
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * MAX);
  });

  test('more bytes than allowed are refused, and one byte less is not', () => {
    const value = 'x'.repeat(1_000);
    const { length } = encodeValue('cart', value, MAX);
    expect(encodeValue('cart', value, length).length).toBe(length);
    expect(() => encodeValue('cart', value, length - 1)).toThrow(
      expect.objectContaining({ code: 'ERR_SESSION_TOO_LARGE' }),
    );
  });

  test('a small value that unfolds to a huge one is refused before it fills the memory', () => {
    let bomb: unknown[] = ['x'.repeat(100)];
    for (let level = 0; level < 40; level++) bomb = [bomb, bomb];
    expect(() => encodeValue('cart', bomb, MAX)).toThrow(expect.objectContaining({ code: 'ERR_SESSION_TOO_LARGE' }));
  });
});

describe('what is read cannot be changed in place', () => {
  const value = roundTrip({
    list: [{ a: 1 }],
    map: new Map([['k', { a: 1 }]]),
    set: new Set([1]),
    at: new Date(5),
    re: /x/,
  });

  test.each([
    ['a property', () => Object.assign(value, { list: [] })],
    ['a nested property', () => Object.assign(value.list[0]!, { a: 2 })],
    ['an array', () => value.list.push({ a: 2 })],
    ['Map.set', () => value.map.set('x', { a: 2 })],
    ['Map.delete', () => value.map.delete('k')],
    ['Map.clear', () => value.map.clear()],
    ['a value in a Map', () => Object.assign(value.map.get('k')!, { a: 2 })],
    ['Set.add', () => value.set.add(2)],
    ['Set.delete', () => value.set.delete(1)],
    ['Set.clear', () => value.set.clear()],
    ['Date.setTime', () => value.at.setTime(6)],
    ['Date.setUTCFullYear', () => value.at.setUTCFullYear(2000)],
    ['a RegExp', () => Object.assign(value.re, { lastIndex: 1 })],
  ])('%s throws', (_what, mutate) => {
    expect(mutate).toThrow(TypeError);
    expect(value).toStrictEqual({
      list: [{ a: 1 }],
      map: new Map([['k', { a: 1 }]]),
      set: new Set([1]),
      at: new Date(5),
      re: /x/,
    });
  });

  test('says when a value holds bytes, which cannot be frozen', () => {
    expect(decodeValue(encodeValue('a', [new Uint8Array(1)], MAX), 'a').hasBytes).toBe(true);
    expect(decodeValue(encodeValue('a', ['x'], MAX), 'a').hasBytes).toBe(false);
  });
});

describe('damaged bytes', () => {
  const bytes = encodeValue('a', { list: [1, 'two', new Date(3)], map: new Map([['k', new Uint8Array([1, 2])]]) }, MAX);

  const unreadable = (text: string) =>
    expect.objectContaining({
      code: 'ERR_SESSION_UNREADABLE',
      message: expect.stringMatching(new RegExp(`^session attribute "a" .*${text}`)),
    });

  test('begin with the format version; a newer one is as unknown as a type', () => {
    expect(bytes[0]).toBe(1);
    expect(() => decodeValue(Uint8Array.from([2, ...bytes.subarray(1)]), 'a')).toThrow(
      expect.objectContaining({
        code: 'ERR_SESSION_TYPE_UNKNOWN',
        attribute: 'a',
        type: 'format 2',
        message: expect.stringContaining('is stored in format 2, which a newer release of Holdfast wrote'),
      }),
    );
    expect(() => decodeValue(Uint8Array.from([0, ...bytes.subarray(1)]), 'a')).toThrow(unreadable('format 0'));
  });

  test('are refused also when they nest without end, or hold a number without end', () => {
    const nested = Buffer.alloc(1_000_001, Buffer.from([10, 1]));
    expect(() => decodeValue(Buffer.concat([Buffer.of(1), nested]), 'a')).toThrow(unreadable(''));
    expect(() => decodeValue(Buffer.concat([Buffer.of(1, 10), Buffer.alloc(100_000, 0x80)]), 'a')).toThrow(
      unreadable('number without end'),
    );
  });

  test('are refused at every length they can be cut to', () => {
    for (let length = 0; length < bytes.length; length++)
      expect(() => decodeValue(bytes.subarray(0, length), 'a')).toThrow(unreadable(''));
    expect(() => decodeValue(Uint8Array.from([...bytes, 0]), 'a')).toThrow(unreadable('after its end'));
  });

  test('never do worse than throw', () => {
    for (let index = 1; index < bytes.length; index++) {
      for (const byte of [0, 1, 7, 10, 18, 19, 0x7f, 0x80, 0xff]) {
        const damaged = Uint8Array.from(bytes);
        damaged[index] = byte;
        try {
          decodeValue(damaged, 'a');
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }
    }
  });
});
