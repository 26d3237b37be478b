import { describe, expect, test } from 'vitest';
import { isHoldfastError } from '../../src/base/errors.ts';
import { decodeValue } from '../../src/session/record/decoder.ts';
import { encodeValue } from '../../src/session/record/encoder.ts';
import { defineType, SessionTypeUnknownError } from '../../src/session/record/type-registry.ts';

const MAX = 1024 * 1024;

const encode = (value: unknown) => encodeValue('cart', value, MAX);
const decode = (bytes: Uint8Array) => decodeValue(bytes, 'cart').value;
function roundTrip<T>(value: T): T {
  return decode(encode(value)) as T;
}
const refused = (text: string) =>
  expect.objectContaining({ code: 'ERR_SESSION_NOT_SERIALIZABLE', message: expect.stringContaining(text) });
const unreadable = (text: string) =>
  expect.objectContaining({ code: 'ERR_SESSION_UNREADABLE', message: expect.stringContaining(text) });

/** The same bytes with a text in them replaced by one that is as long. */
function replaced(bytes: Uint8Array, from: string, to: string): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1');
  expect(text).toContain(from);
  expect(to.length).toBe(from.length);
  return Buffer.from(text.replace(from, to), 'latin1');
}

let constructed = 0;
const SECRET = Symbol('secret');
class Money {
  amount: number;
  currency: string;
  note?: string | undefined;
  constructor(amount: number, currency: string) {
    constructed++;
    this.amount = amount;
    this.currency = currency;
  }
  plus(other: Pick<Money, 'amount'>): Money {
    return new Money(this.amount + other.amount, this.currency);
  }
  get text(): string {
    return `${this.amount} ${this.currency}`;
  }
}
class Gold extends Money {}
defineType('Money', Money, { keep: ['amount', 'currency', 'note'], transient: ['cache', SECRET] });

describe('an instance of a declared class', () => {
  test('comes back with its class, its methods and what is kept, without its constructor being run', () => {
    const price = new Money(5, 'EUR');
    constructed = 0;
    const back = roundTrip({ list: [price], map: new Map([[price, new Set([price])]]) });
    expect(constructed).toBe(0);
    expect(back).toStrictEqual({ list: [price], map: new Map([[price, new Set([price])]]) });
    expect(back.list[0]).toBeInstanceOf(Money);
    expect(back.list[0]!.text).toBe('5 EUR');
    expect(back.list[0]!.plus(back.list[0]!).amount).toBe(10);
  });

  test('cannot be changed in place, nor can what it holds', () => {
    class Basket {
      items = [{ name: 'pen' }];
      at = new Date(5);
    }
    defineType('Basket', Basket, { keep: ['items', 'at'] });
    const back = roundTrip(new Basket());
    expect(() => Object.assign(back, { items: [] })).toThrow(TypeError);
    expect(() => back.items.push({ name: 'ink' })).toThrow(TypeError);
    expect(() => Object.assign(back.items[0]!, { name: 'ink' })).toThrow(TypeError);
    expect(() => back.at.setTime(6)).toThrow(TypeError);
    expect(back).toStrictEqual(new Basket());
  });

  test('loses what is named transient, and nothing that is not', () => {
    const price = Object.assign(new Money(5, 'EUR'), { cache: () => 5, [SECRET]: new WeakMap(), note: undefined });
    const back = roundTrip(price);
    expect(Reflect.ownKeys(back)).toEqual(['amount', 'currency', 'note']);
  });

  test.each([
    [
      'a property',
      { tax: 1 },
      'cart[0].tax is a property that session type "Money" names neither in keep nor in transient',
    ],
    ['a symbol', { [Symbol('tax')]: 1 }, 'cart[0][Symbol(tax)] is a property that session type "Money" names'],
  ])('is refused with %s that is not named', (_what, extra, text) => {
    expect(() => encode([Object.assign(new Money(5, 'EUR'), extra)])).toThrow(refused(text));
  });

  test('is refused with a hidden property that is not named', () => {
    const price = Object.defineProperty(new Money(5, 'EUR'), 'hidden', { value: 1 });
    expect(() => encode(price)).toThrow(refused('cart.hidden is a property'));
  });

  test('is refused with something in it that cannot be kept', () => {
    const price = Object.assign(new Money(5, 'EUR'), { note: [() => {}] });
    expect(() => encode({ price })).toThrow(refused('cart.price.note[0] is a function'));
  });

  test('that contains itself is refused', () => {
    const price = new Money(5, 'EUR');
    Object.assign(price, { note: [price] });
    expect(() => encode(price)).toThrow(refused('cart.note[0] contains itself'));
  });

  test('that was read can be set again', () => {
    expect(roundTrip(roundTrip([new Money(5, 'EUR')]))).toStrictEqual([new Money(5, 'EUR')]);
  });

  test('keeps a property for which its class has a setter', () => {
    class Shadowed {
      set size(_value: number) {
        throw new Error('a setter was run');
      }
    }
    defineType('Shadowed', Shadowed, { keep: ['size', '__proto__'] });
    const value = Object.defineProperties(new Shadowed(), {
      size: { value: 3, enumerable: true },
      ['__proto__']: { value: { isAdmin: true }, enumerable: true },
    });
    const back = roundTrip(value);
    expect(Object.getPrototypeOf(back)).toBe(Shadowed.prototype);
    expect(Object.getOwnPropertyDescriptor(back, 'size')?.value).toBe(3);
    expect(Object.getOwnPropertyDescriptor(back, '__proto__')?.value).toEqual({ isAdmin: true });
  });

  test('is shared by readers: nothing in it can change', () => {
    expect(decodeValue(encode(new Money(5, 'EUR')), 'cart').hasBytes).toBe(false);
  });
});

describe('an instance of a class that is not declared', () => {
  class Stranger {}
  class Stack extends Array {}
  class Failure extends Error {}
  class Moment extends Date {}
  class Bytes extends Uint8Array {}
  class FakeRange extends Error {}
  FakeRange.prototype.name = 'RangeError';

  test.each([
    [
      'an own class',
      new Stranger(),
      "cart is an instance of Stranger, which a session cannot keep; store plain data, or declare the class: defineType('Stranger', Stranger, …)",
    ],
    [
      'a subclass of a declared one',
      new Gold(5, 'EUR'),
      'cart is an instance of Gold, a subclass of Money that is not declared itself',
    ],
    ['a subclass of Array', Stack.from([1, 2]), 'cart is an instance of Stack'],
    ['a subclass of Error', new Failure('x'), 'cart is an instance of Failure'],
    ['a subclass of Error that goes by the name of another', new FakeRange('x'), 'cart is an instance of FakeRange'],
    ['a subclass of Date', new Moment(5), 'cart is an instance of Moment'],
    ['a subclass of Uint8Array', new Bytes(1), 'cart is an instance of Bytes'],
    [
      'a Map in disguise',
      Object.setPrototypeOf(new Map([[1, 2]]), Stranger.prototype),
      'cart is an instance of Stranger',
    ],
    ['a URL', new URL('http://localhost'), "defineType('URL', URL, …)"],
  ])('is refused: %s', (_what, value, text) => {
    expect(() => encode(value)).toThrow(refused(text));
  });

  test('a built-in one is not said to be declarable', () => {
    expect(() => encode(Promise.resolve())).toThrow(
      refused('is an instance of Promise, which a session cannot keep; store plain data'),
    );
    expect(() => encode(Promise.resolve())).not.toThrow('defineType');
  });
});

describe('a class with create', () => {
  class Counter {
    count: number;
    steps: number[];
    readonly #double: number;
    log: string[] = [];
    constructor(count: number, steps: readonly number[]) {
      this.count = count;
      this.steps = [...steps];
      this.#double = count * 2;
    }
    get double(): number {
      return this.#double;
    }
  }
  defineType('Counter', Counter, {
    keep: ['count', 'steps'],
    transient: ['log'],
    create: ({ count, steps }) => new Counter(count, steps),
  });

  test('makes its instances itself, private members included', () => {
    const back = roundTrip(new Counter(4, [1]));
    expect(back).toBeInstanceOf(Counter);
    expect(back.double).toBe(8);
    expect(back.log).toEqual([]);
  });

  test('gets them frozen, with what is kept, and what is transient left alone', () => {
    const back = roundTrip(new Counter(4, [1]));
    expect(() => Object.assign(back, { count: 5 })).toThrow(TypeError);
    expect(() => back.steps.push(2)).toThrow(TypeError);
    back.log.push('read');
    expect(back.log).toEqual(['read']);
  });

  test('makes one for each reader, because what is private may change', () => {
    expect(decodeValue(encode([new Counter(4, [])]), 'cart').hasBytes).toBe(true);
  });
});

describe('a class with write and read', () => {
  class Vault {
    readonly #items: Map<string, number>;
    constructor(items: Iterable<readonly [string, number]>) {
      this.#items = new Map(items);
    }
    entries(): [string, number][] {
      return [...this.#items];
    }
  }
  defineType('Vault', Vault, { write: vault => vault.entries(), read: entries => new Vault(entries) });

  test('keeps what only it can see', () => {
    expect(roundTrip({ vault: new Vault([['a', 1]]) }).vault.entries()).toEqual([['a', 1]]);
  });

  test('may extend a built-in class, and cannot be changed in place', () => {
    class Tags extends Set<string> {}
    class Ages extends Map<string, number> {}
    class Failure extends Error {
      readonly retries: number;
      constructor(message: string, retries: number) {
        super(message);
        this.retries = retries;
      }
    }
    defineType('Tags', Tags, { write: tags => [...tags], read: tags => new Tags(tags) });
    defineType('Ages', Ages, { write: ages => [...ages], read: ages => new Ages(ages) });
    defineType('Failure', Failure, {
      write: ({ message, retries }) => ({ message, retries }),
      read: ({ message, retries }) => new Failure(message, retries),
    });
    const back = roundTrip({
      tags: new Tags(['a']),
      ages: new Ages([['ann', 5]]),
      failure: new Failure('no', 3),
    });
    expect(back.tags).toBeInstanceOf(Tags);
    expect([...back.tags]).toEqual(['a']);
    expect(back.ages.get('ann')).toBe(5);
    expect(back.failure).toMatchObject({ message: 'no', retries: 3 });
    expect(back.failure).toBeInstanceOf(Failure);
    expect(() => back.tags.add('b')).toThrow(TypeError);
    expect(() => back.ages.clear()).toThrow(TypeError);
    expect(() => Object.assign(back.failure, { retries: 4 })).toThrow(TypeError);
  });

  test('may be one of the platform', () => {
    defineType('URL', URL, { write: url => url.href, read: href => new URL(href) });
    expect(roundTrip([new URL('http://localhost/a?b')])[0]!.search).toBe('?b');
  });

  test('may hold instances of other declared classes', () => {
    class Offer {
      readonly #price: Money;
      constructor(price: Money) {
        this.#price = price;
      }
      get price(): Money {
        return this.#price;
      }
    }
    defineType('Offer', Offer, { write: offer => [offer.price], read: ([price]) => new Offer(price as Money) });
    expect(roundTrip(new Offer(new Money(5, 'EUR'))).price).toStrictEqual(new Money(5, 'EUR'));
  });

  test('is told by path what of its form cannot be kept, and what was thrown', () => {
    class Odd {
      form: unknown;
    }
    defineType('Odd', Odd, {
      write: ({ form }) => {
        if (form === 'throw') throw new RangeError('not today');
        return form;
      },
      read: () => new Odd(),
    });
    const odd = (form: unknown) => ({ list: [Object.assign(new Odd(), { form })] });
    expect(() => encode(odd({ fn() {} }))).toThrow(refused('cart.list[0]<Odd>.fn is a function'));
    expect(() => encode(odd('throw'))).toThrow(refused('cart.list[0]<Odd> could not be read'));
    expect(() => encode(odd('throw'))).toThrow(expect.objectContaining({ cause: new RangeError('not today') }));
    const itself = new Odd();
    itself.form = itself;
    expect(() => encode(itself)).toThrow(refused('cart<Odd> contains itself'));
  });

  test.each([
    [
      'throws',
      () => {
        throw new RangeError('older shape');
      },
      'could not make an instance',
    ],
    ['returns nothing', () => undefined, 'made something else than an instance of its class'],
    ['returns something else', () => new Map(), 'made something else than an instance of its class'],
    ['returns a promise', async () => ({}), 'made something else than an instance of its class'],
  ])('whose read %s leaves the attribute unreadable, not the session broken', (what, read, text) => {
    class Failing {}
    defineType(`Failing ${what}`, Failing, { write: () => 1, read: read as () => Failing });
    const bytes = encode(new Failing());
    expect(() => decode(bytes)).toThrow(unreadable(text));
    expect(() => decode(bytes)).toThrow(unreadable('session attribute "cart"'));
    if (what === 'throws')
      expect(() => decode(bytes)).toThrow(expect.objectContaining({ cause: new RangeError('older shape') }));
  });
});

describe('a value of another release', () => {
  test('of a type that this process does not know says which attribute and type, wherever it is in the value', () => {
    for (const value of [new Money(5, 'EUR'), [{ a: new Map([[1, new Set([new Money(5, 'EUR')])]]) }]]) {
      const bytes = replaced(encode(value), 'Money', 'Other');
      const before = Buffer.from(bytes);
      const error = catchError(() => decode(bytes));
      expect(error).toBeInstanceOf(SessionTypeUnknownError);
      expect(error).toMatchObject({ code: 'ERR_SESSION_TYPE_UNKNOWN', attribute: 'cart', type: 'Other' });
      expect(error).toHaveProperty('message', expect.stringContaining('declare it with defineType'));
      expect(isHoldfastError(error)).toBe(true);
      expect(Buffer.compare(before, bytes)).toBe(0);
    }
  });

  test('of a newer version of the type is as unknown as the type', () => {
    class Shape {
      sides = 4;
    }
    defineType('Shape', Shape, { keep: ['sides'], version: 2 });
    const bytes = encode(new Shape());
    expect(decode(bytes)).toStrictEqual(new Shape());
    const at = Buffer.from(bytes).indexOf('Shape') + 'Shape'.length;
    expect(bytes[at]).toBe(2);
    bytes[at] = 3;
    expect(catchError(() => decode(bytes))).toMatchObject({
      code: 'ERR_SESSION_TYPE_UNKNOWN',
      attribute: 'cart',
      type: 'Shape',
      message: expect.stringContaining('of version 3; this process knows up to 2'),
    });
  });

  test('of an older version of the type is given to create and read with that version', () => {
    const seen: unknown[] = [];
    class Old {
      a = 1;
    }
    class New {
      b = 1;
    }
    defineType('Form 1', Old, { keep: ['a'] });
    defineType('Form 2', New, {
      write: ({ b }) => b,
      read: (kept, version) => {
        seen.push(kept, version);
        return new New();
      },
      version: 2,
    });
    expect(decode(replaced(encode(new Old()), 'Form 1', 'Form 2'))).toBeInstanceOf(New);
    expect(seen).toEqual([{ a: 1 }, 1]);
  });

  test('that an earlier write made is not taken for properties', () => {
    class Written {}
    class Plain {}
    defineType('Kind 1', Written, { write: () => [1], read: () => new Written() });
    defineType('Kind 2', Plain, { keep: ['a'] });
    expect(() => decode(replaced(encode(new Written()), 'Kind 1', 'Kind 2'))).toThrow(
      unreadable('that an earlier write function made; give read, or create'),
    );
  });
});

describe('defineType', () => {
  class Fresh {
    a = 1;
  }
  class Hidden {
    #secret = 1;
    get secret(): number {
      return this.#secret;
    }
  }
  class HiddenMethod {
    /* #not = 1; */
    run(): number {
      return this.#work();
    }
    #work(): number {
      return 1;
    }
  }
  class BelowHidden extends Hidden {}
  class Stack extends Array {}
  // biome-ignore lint/suspicious/noExplicitAny: what a program without types can pass.
  const define = defineType as (...values: any[]) => void;
  const keep = { keep: ['a'] };

  const mistakes: [what: string, values: unknown[], text: string][] = [
    ['a class twice', ['Money again', Money, keep], 'class Money is declared already, as "Money"'],
    ['a name twice', ['Money', Fresh, keep], 'the name is taken by another class'],
    ['an empty name', ['', Fresh, keep], '1 to 256 characters'],
    ['a name that is too long', ['x'.repeat(257), Fresh, keep], '1 to 256 characters'],
    ['something else than a class', ['x', { a: 1 }, keep], 'must be a class'],
    ['an arrow function', ['x', () => {}, keep], 'must be a class'],
    ['nothing to keep', ['x', Fresh, {}], 'give keep, or both write and read'],
    ['write without read', ['x', Fresh, { write: () => 1 }], 'give keep, or both write and read'],
    ['keep with write', ['x', Fresh, { ...keep, write: () => 1, read: () => new Fresh() }], 'either keep or write'],
    ['keep that is no list', ['x', Fresh, { keep: 'a' }], 'keep must be a list'],
    ['keep with a symbol', ['x', Fresh, { keep: [Symbol('a')] }], 'keep must be a list'],
    ['transient that is no list', ['x', Fresh, { ...keep, transient: 1 }], 'transient must be a list'],
    ['a property in both', ['x', Fresh, { ...keep, transient: ['a'] }], '"a" is named both in keep and in transient'],
    ['create that is no function', ['x', Fresh, { ...keep, create: 1 }], 'create must be a function'],
    ['version 0', ['x', Fresh, { ...keep, version: 0 }], 'version must be an integer from 1'],
    ['a broken version', ['x', Fresh, { ...keep, version: 1.5 }], 'version must be an integer from 1'],
    ['private fields', ['x', Hidden, keep], 'private member #secret'],
    ['private methods', ['x', HiddenMethod, keep], 'private member #work'],
    ['private fields of a base class', ['x', BelowHidden, keep], 'private member #secret'],
    ['a class that extends a built-in one', ['x', Stack, keep], 'extends Array'],
    ['a built-in class by its properties', ['x', Promise, keep], 'Promise is built in'],
    ['a class that is kept anyway', ['x', Map, { write: () => 1, read: () => new Map() }], 'Map is built in'],
    ['Object by its properties', ['x', Object, keep], 'Object is built in'],
    ['Object', ['x', Object, { write: () => 1, read: () => ({}) }], 'Object is built in'],
  ];
  test.each(mistakes)('refuses %s', (_what, values, text) => {
    expect(() => define(...values)).toThrow(TypeError);
    expect(() => define(...values)).toThrow(text);
  });

  test('takes a class again that it refused before', () => {
    define('Fresh', Fresh, keep);
    expect(roundTrip(new Fresh())).toStrictEqual(new Fresh());
  });
});

function catchError(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}
