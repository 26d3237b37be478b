import { createContext, runInContext } from 'node:vm';

/** A value that an application might pass where text or bytes are wanted. */
export interface HostileValue {
  /** Made anew for each use: some can be used only once. */
  readonly make: () => unknown;
  /** What a peer must receive of it. Absent: it is neither text nor bytes. */
  readonly sent?: string | Uint8Array;
  /** How an error has to name it. */
  readonly named?: string;
}

const sample = Uint8Array.from({ length: 100 }, (_, i) => i);
/** More than the frame writer gathers in memory that connections share, and more than the threshold of compression. */
const long = new Uint8Array(40_000).fill(7);

/** With properties of its own in place of those that say where its bytes are. */
function lying(properties: Record<PropertyKey, unknown>, bytes = sample): Uint8Array {
  const array = new Uint8Array(bytes);
  for (const [name, value] of Object.entries(properties)) Object.defineProperty(array, name, { value });
  return array;
}

class Boasting extends Uint8Array {
  override get length(): number {
    return 2 ** 40;
  }
  override get byteLength(): number {
    return 2 ** 40;
  }
  override get byteOffset(): number {
    return 2 ** 30;
  }
}

class Throwing extends Uint8Array {
  static get [Symbol.species](): Uint8ArrayConstructor {
    throw new Error('species');
  }
  override get length(): number {
    throw new Error('length');
  }
  override get byteLength(): number {
    throw new Error('byteLength');
  }
  override get buffer(): ArrayBuffer {
    throw new Error('buffer');
  }
  override subarray(): never {
    throw new Error('subarray');
  }
  override [Symbol.iterator](): never {
    throw new Error('iterator');
  }
}

function detached(): Uint8Array {
  const array = new Uint8Array(sample);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

/** A view behind the end of a buffer that has shrunk. */
function outOfBounds(): Uint8Array {
  const buffer = new ArrayBuffer(100, { maxByteLength: 200 });
  const array = new Uint8Array(buffer, 50, 50);
  buffer.resize(10);
  return array;
}

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

function shared(bytes: Uint8Array, options?: { maxByteLength: number }): Uint8Array {
  const array = new Uint8Array(new SharedArrayBuffer(bytes.length, options));
  array.set(bytes);
  return array;
}

const foreign = createContext({});

export const hostileValues: Readonly<Record<string, HostileValue>> = {
  'an empty text': { make: () => '', sent: '' },
  'a text': { make: () => 'text é€𝄞', sent: 'text é€𝄞' },
  'half a surrogate pair': { make: () => 'a\ud834', sent: 'a\ufffd' },
  'a long text': { make: () => 'é'.repeat(40_000), sent: 'é'.repeat(40_000) },
  bytes: { make: () => new Uint8Array(sample), sent: sample },
  'no bytes': { make: () => new Uint8Array(0), sent: new Uint8Array(0) },
  'many bytes': { make: () => new Uint8Array(long), sent: long },
  'a Buffer': { make: () => Buffer.from(sample), sent: sample },
  'a part of a buffer': { make: () => new Uint8Array(sample.buffer, 10, 20), sent: sample.subarray(10, 30) },
  'bytes of another realm': {
    make: () => runInContext('Uint8Array.of(1, 2, 3)', foreign),
    sent: Uint8Array.of(1, 2, 3),
  },
  'bytes that claim a negative length': { make: () => lying({ length: -1, byteLength: -1 }), sent: sample },
  'bytes that claim a large length': { make: () => lying({ length: 2 ** 31, byteLength: 2 ** 31 }), sent: sample },
  'many bytes that claim a large length': {
    make: () => lying({ length: 2 ** 31, byteLength: 2 ** 31 }, long),
    sent: long,
  },
  'many bytes that claim a short length': { make: () => lying({ length: 1, byteLength: 1 }, long), sent: long },
  'bytes that claim a length that is not a number': {
    make: () => lying({ length: 'x', byteLength: {} }),
    sent: sample,
  },
  'bytes that claim another offset': {
    make: () => lying({ byteOffset: 2 ** 30, buffer: new ArrayBuffer(1) }, long),
    sent: long,
  },
  'bytes of a boasting class': { make: () => new Boasting(sample), sent: sample },
  'many bytes of a boasting class': { make: () => new Boasting(long), sent: long },
  'bytes of a throwing class': { make: () => new Throwing(sample.slice().buffer), sent: sample },
  'many bytes of a throwing class': { make: () => new Throwing(long.slice().buffer), sent: long },
  'shared bytes': { make: () => shared(sample), sent: sample },
  'many shared bytes': { make: () => shared(long), sent: long },
  'shared bytes that may grow': { make: () => shared(sample, { maxByteLength: 10_000 }), sent: sample },
  'bytes that may shrink': {
    make: () => new Uint8Array(new ArrayBuffer(3, { maxByteLength: 10 })),
    sent: new Uint8Array(3),
  },
  'bytes with other names': { make: () => lying({ constructor: null, [Symbol.toStringTag]: 'Map' }), sent: sample },

  'detached bytes': { make: detached, named: 'detached' },
  'bytes out of bounds': { make: outOfBounds, named: 'detached' },
  undefined: { make: () => undefined, named: 'undefined' },
  null: { make: () => null, named: 'null' },
  true: { make: () => true, named: 'a boolean' },
  zero: { make: () => 0, named: 'a number' },
  'a number': { make: () => 42, named: 'a number' },
  'a negative number': { make: () => -1, named: 'a number' },
  'a fraction': { make: () => 1000.5, named: 'a number' },
  NaN: { make: () => Number.NaN, named: 'a number' },
  'a BigInt': { make: () => 10n, named: 'a bigint' },
  'a symbol': { make: () => Symbol('text'), named: 'a symbol' },
  'a function': { make: () => () => 'text', named: 'a function' },
  'a class': { make: () => Uint8Array, named: 'a function' },
  'an empty object': { make: () => ({}), named: 'an object' },
  'an object without a prototype': { make: () => Object.create(null), named: 'an object' },
  'an object with a length': { make: () => ({ length: 3, 0: 1, 1: 2, 2: 3 }), named: 'an object' },
  'an object with a negative length': { make: () => ({ length: -100_000, byteLength: -100_000 }), named: 'an object' },
  'an object with a fractional length': { make: () => ({ length: 1.5, byteLength: 1.5 }), named: 'an object' },
  'an object with a length that is not a number': { make: () => ({ length: Number.NaN }), named: 'an object' },
  'an object with a length above the slab': {
    make: () => ({ length: 130_000, byteLength: 130_000 }),
    named: 'an object',
  },
  'an object with a large length': { make: () => ({ length: 2 ** 31, byteLength: 2 ** 31 }), named: 'an object' },
  'an object with an endless length': { make: () => ({ length: Number.POSITIVE_INFINITY }), named: 'an object' },
  'an object with a text as length': { make: () => ({ length: '8', byteLength: '8' }), named: 'an object' },
  'an object that converts itself': { make: () => ({ toString: () => 'x', valueOf: () => 5 }), named: 'an object' },
  'an object that throws': {
    make: () => ({
      get length(): number {
        throw new Error('length');
      },
      get constructor(): never {
        throw new Error('constructor');
      },
      get [Symbol.toStringTag](): never {
        throw new Error('toStringTag');
      },
      toString(): never {
        throw new Error('toString');
      },
    }),
    named: 'an object',
  },
  'an object that looks like bytes': {
    make: () => ({
      [Symbol.toStringTag]: 'Uint8Array',
      buffer: new ArrayBuffer(8),
      byteOffset: 0,
      byteLength: 8,
      length: 8,
    }),
    named: 'an object',
  },
  'an object under Uint8Array': { make: () => Object.create(Uint8Array.prototype), named: 'an object' },
  'an object under Buffer': { make: () => Object.create(Buffer.prototype), named: 'an object' },
  'the JSON of a Buffer': { make: () => Buffer.from('x').toJSON(), named: 'an object' },
  'an array': { make: () => [1, 2, 3], named: 'an Array' },
  'an empty array': { make: () => [], named: 'an Array' },
  'an array with a large length': { make: () => new Array(2 ** 32 - 1), named: 'an Array' },
  'a String object': { make: () => new String('text'), named: 'a String object' },
  'a Number object': { make: () => new Number(5), named: 'a Number object' },
  'a Date': { make: () => new Date(0), named: 'a Date' },
  'a Map': { make: () => new Map([[1, 2]]), named: 'a Map' },
  'a Promise': { make: () => Promise.resolve('text'), named: 'a Promise' },
  'an Error': { make: () => new Error('text'), named: 'an Error' },
  'an ArrayBuffer': { make: () => sample.slice().buffer, named: 'an ArrayBuffer' },
  'an ArrayBuffer of another realm': {
    make: () => runInContext('new ArrayBuffer(8)', foreign),
    named: 'an ArrayBuffer',
  },
  'a SharedArrayBuffer': { make: () => new SharedArrayBuffer(8), named: 'a SharedArrayBuffer' },
  'a DataView': { make: () => new DataView(new ArrayBuffer(8)), named: 'a DataView' },
  'a Blob': { make: () => new Blob(['text']), named: 'a Blob' },
  'an Int8Array': { make: () => new Int8Array(8), named: 'an Int8Array' },
  'a Uint8ClampedArray': { make: () => new Uint8ClampedArray(8), named: 'a Uint8ClampedArray' },
  'a Uint16Array': { make: () => Uint16Array.of(0x100, 0x200), named: 'a Uint16Array' },
  'a large Uint32Array': { make: () => new Uint32Array(40_000), named: 'a Uint32Array' },
  'a Float64Array': { make: () => Float64Array.of(1.5), named: 'a Float64Array' },
  'a BigInt64Array': { make: () => BigInt64Array.of(1n), named: 'a BigInt64Array' },
  'a ReadableStream': { make: () => new ReadableStream(), named: 'a ReadableStream' },
  'a Proxy of bytes': { make: () => new Proxy(new Uint8Array(8), {}), named: 'a Proxy' },
  'a Proxy of a function': { make: () => new Proxy(() => {}, {}), named: 'a Proxy' },
  'a revoked Proxy': { make: revoked, named: 'a Proxy' },
  'a Proxy that throws': {
    make: () =>
      new Proxy(
        {},
        {
          get: () => {
            throw new Error('get');
          },
          getPrototypeOf: () => {
            throw new Error('getPrototypeOf');
          },
        },
      ),
    named: 'a Proxy',
  },
};

/** What an application might throw besides: looking at some of it throws again. */
export const hostileErrors: Readonly<Record<string, () => unknown>> = {
  'an error with a BigInt': () => Object.assign(new Error('text'), { detail: 10n }),
  'an error whose message throws': () => throwing(new Error('text'), 'message'),
  'an error whose message is a symbol': () => Object.assign(new Error('text'), { message: Symbol('text') }),
  'an error whose message is an object': () => Object.assign(new Error('text'), { message: Object.create(null) }),
  'an error whose stack throws': () => throwing(new Error('text'), 'stack'),
  'an error whose detail throws': () => throwing(new Error('text'), 'detail'),
  'an error whose code throws': () => throwing(Object.assign(new Error('text'), { name: 'HoldfastError' }), 'code'),
  'an error whose toJSON throws': () => Object.assign(new Error('text'), { toJSON: () => throwing({}, 'x').x }),
  'an error that causes itself': () => {
    const error = new Error('text');
    error.cause = error;
    return error;
  },
  'a frozen error': () => Object.freeze(new Error('text')),
  'a Proxy of an error': () => new Proxy(new Error('text'), { get: () => throwing({}, 'x').x }),
  'an error like ours with a number as code': () => like({ code: 5 }),
  'an error like ours with a status that is none': () => like({ code: 'ERR_SESSION_X', status: Number.NaN }),
  'an error like ours with a text as status': () => like({ code: 'ERR_SESSION_X', status: '20\r\n0' }),
  'an error like ours with a status above 599': () => like({ code: 'ERR_SESSION_X', status: 1000 }),
  // biome-ignore lint/suspicious/noThenProperty: that is what is tried.
  'a thenable that throws': () => ({ then: () => throwing({}, 'x').x }),
  'a thenable that cannot be read': () => throwing({}, 'then'),
  'a thenable that settles twice': () => ({
    // biome-ignore lint/suspicious/noThenProperty: that is what is tried.
    then(resolve: (value: unknown) => void, reject: (error: unknown) => void) {
      resolve(1);
      reject(new Error('text'));
    },
  }),
  'a thenable that rejects with nothing readable': () => ({
    // biome-ignore lint/suspicious/noThenProperty: that is what is tried.
    then: (_: unknown, reject: (error: unknown) => void) => reject(Object.create(null)),
  }),
};

function throwing<T extends object>(object: T, name: string): T & Record<string, never> {
  const get = () => {
    throw new Error(name);
  };
  return Object.defineProperty(object, name, { get, enumerable: true }) as T & Record<string, never>;
}

function like(properties: object): Error {
  return Object.assign(new Error('text'), { name: 'HoldfastError', ...properties });
}

/** Errors and what else a callback could throw or return: of values that are of one kind here, one. */
export const anything: Readonly<Record<string, () => unknown>> = {
  ...Object.fromEntries(
    Object.entries(hostileValues)
      .filter(([name]) => !/^many|^bytes that|length (?!of)|\d|number|fraction|long|another/.test(name))
      .map(([name, { make }]) => [name, make]),
  ),
  ...hostileErrors,
};
