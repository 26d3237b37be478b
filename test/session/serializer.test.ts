import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { decodeValue, encodeValue } from '../../src/session/serializer.ts';

const MAX = 1024 * 1024;

function roundTrip<T>(value: T): T {
  return decodeValue(encodeValue('cart', value, MAX)).value as T;
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

  test('what was read from a session', () => {
    const value = { at: new Date(5), map: new Map([[1, new Set([2])]]), bytes: new Uint8Array([1]), list: [/x/] };
    expect(roundTrip(roundTrip(value))).toStrictEqual(value);
  });
});

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
    ['an object with a prototype of its own', Object.create({ a: 1 }), 'cart is an instance of Object'],
    ['a cycle', cyclic, 'cart.list[0].back contains itself'],
    ['an array with holes', { list: holes }, 'cart.list is an array with holes'],
    ['a very long array of nothing', [new Array(4e9)], 'cart[0] is an array with holes'],
    ['an array with a property', Object.assign([1], { extra: 1 }), 'cart is an array with the property extra'],
    ['what is in a Map', new Map([['k', () => {}]]), 'cart[value 0] is a function'],
    ['a key of a Map', new Map([[() => {}, 1]]), 'cart[key 0] is a function'],
    ['what is in a Set', { s: new Set([1, () => {}]) }, 'cart.s[value 1] is a function'],
    ['a key that needs quotes', { 'a b': [() => {}] }, 'cart["a b"][0] is a function'],
    ['the cause of an error', new Error('x', { cause: () => {} }), 'cart.cause is a function'],
    ['nesting without end', deep, 'is nested deeper than 200 levels'],
  ])('%s is refused by its path', (_what, value, path) => {
    expect(() => encodeValue('cart', value, MAX)).toThrow(
      expect.objectContaining({ code: 'ERR_SESSION_NOT_SERIALIZABLE', message: expect.stringContaining(path) }),
    );
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
    expect(decodeValue(encodeValue('a', [new Uint8Array(1)], MAX)).hasBytes).toBe(true);
    expect(decodeValue(encodeValue('a', ['x'], MAX)).hasBytes).toBe(false);
  });
});

describe('damaged bytes', () => {
  const bytes = encodeValue('a', { list: [1, 'two', new Date(3)], map: new Map([['k', new Uint8Array([1, 2])]]) }, MAX);

  test('begin with the format version, and another one is refused', () => {
    expect(bytes[0]).toBe(1);
    expect(() => decodeValue(Uint8Array.from([2, ...bytes.subarray(1)]))).toThrow('format 2');
  });

  test('are refused at every length they can be cut to', () => {
    for (let length = 0; length < bytes.length; length++)
      expect(() => decodeValue(bytes.subarray(0, length))).toThrow();
    expect(() => decodeValue(Uint8Array.from([...bytes, 0]))).toThrow('after its end');
  });

  test('never do worse than throw', () => {
    for (let index = 1; index < bytes.length; index++) {
      for (const byte of [0, 1, 7, 10, 18, 19, 0x7f, 0x80, 0xff]) {
        const damaged = Uint8Array.from(bytes);
        damaged[index] = byte;
        try {
          decodeValue(damaged);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }
    }
  });
});
