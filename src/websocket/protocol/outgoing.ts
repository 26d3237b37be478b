import { types } from 'node:util';
import { byteLengthOf, isDetached, typedArrayName } from '../../base/bytes.ts';
import { isSendableCloseCode } from '../../wire/close-codes.ts';

/*
 * What an application passes to be sent is checked here, before anything that connections share is touched: a value
 * that is neither text nor bytes costs its own call a TypeError, and other connections nothing.
 */

/** RFC 6455 §5.5. */
const MAX_CONTROL_PAYLOAD = 125;
/** Two bytes of it are the code (RFC 6455 §5.5.1). */
const MAX_CLOSE_REASON = MAX_CONTROL_PAYLOAD - 2;

/** @throws {TypeError} when the value is neither text nor bytes; naming what it is, and what to pass in its place. */
export function checkData(call: string, data: string | Uint8Array): void {
  if (typeof data !== 'string') checkedLength(data, call);
}

/**
 * How many bytes there really are.
 *
 * @param call What the application has called, for the error.
 * @throws {TypeError} when the value is not a `Uint8Array`, or its buffer was taken away from it.
 */
export function checkedLength(bytes: Uint8Array, call = 'send'): number {
  if (typedArrayName(bytes) !== 'Uint8Array') throw notData(call, bytes);
  const length = byteLengthOf(bytes);
  if (length === 0 && isDetached(bytes))
    throw new TypeError(
      `${call}: the buffer of the bytes was detached, or has shrunk; pass them before you transfer or resize it`,
    );
  return length;
}

/**
 * The payload of a ping or pong.
 * @throws {TypeError} as `checkData`.
 * @throws {RangeError} for more than 125 bytes (RFC 6455 §5.5).
 */
export function controlPayload(call: string, data: string | Uint8Array): Uint8Array {
  checkData(call, data);
  const payload = typeof data === 'string' ? Buffer.from(data) : data;
  const length = byteLengthOf(payload);
  if (length > MAX_CONTROL_PAYLOAD)
    throw new RangeError(`${call}: a control frame carries at most ${MAX_CONTROL_PAYLOAD} bytes, not ${length}`);
  return payload;
}

/**
 * @throws {TypeError} when the code is not a number, or the reason not a text.
 * @throws {RangeError} for a code that must not be sent, or a reason of more than 123 bytes of UTF-8.
 */
export function checkClose(code: number, reason: string): void {
  if (typeof code !== 'number')
    throw new TypeError(`close: a code is a number, not ${describe(code)}; pass 1000, for example`);
  if (typeof reason !== 'string')
    throw new TypeError(`close: a reason is a string, not ${describe(reason)}; pass a text of at most 123 bytes`);
  if (!isSendableCloseCode(code))
    throw new RangeError(`close: the code ${code} must not be sent; use 1000 to 1003, 1007 to 1014, or 3000 to 4999`);
  const length = Buffer.byteLength(reason);
  if (length > MAX_CLOSE_REASON)
    throw new RangeError(`close: the reason has ${length} bytes; at most ${MAX_CLOSE_REASON} are allowed`);
}

/** @throws {TypeError} when the topic is not a text. */
export function checkTopic(call: string, topic: string): void {
  if (typeof topic !== 'string')
    throw new TypeError(`${call}: a topic is a string, not ${describe(topic)}; pass the topic's name`);
}

function notData(call: string, value: unknown): TypeError {
  return new TypeError(`${call}: data is a string or a Uint8Array, not ${describe(value)}; ${remedyFor(value)}`);
}

/** What the value is, with an article. Runs no code of the value's, and says nothing of what is in it. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (types.isProxy(value)) return 'a Proxy';
  if (typeof value !== 'object') return `a ${typeof value}`;
  const name = nameOf(value);
  if (name === undefined) return 'an object';
  const article = /^[AEIO]/.test(name) ? 'an' : 'a';
  return `${article} ${name}${types.isBoxedPrimitive(value) ? ' object' : ''}`;
}

/** The name of its class; undefined when it has none, or one that it has no right to. */
function nameOf(value: object): string | undefined {
  const kind = typedArrayName(value);
  if (kind !== undefined) return kind;
  if (types.isArrayBuffer(value)) return 'ArrayBuffer';
  const made = dataProperty(Object.getPrototypeOf(value), 'constructor');
  const name = typeof made === 'function' && !types.isProxy(made) ? dataProperty(made, 'name') : undefined;
  if (typeof name !== 'string' || !/^[A-Za-z]\w{0,49}$/.test(name)) return undefined;
  return ['Object', 'Uint8Array', 'Buffer'].includes(name) ? undefined : name;
}

/** Never a getter's, and none of a prototype that is a proxy. */
function dataProperty(holder: object | null, name: string): unknown {
  return holder === null || types.isProxy(holder) ? undefined : Object.getOwnPropertyDescriptor(holder, name)?.value;
}

function remedyFor(value: unknown): string {
  if (types.isProxy(value) || typeof value === 'symbol' || typeof value === 'function') return 'pass a text or bytes';
  if (types.isAnyArrayBuffer(value)) return 'pass new Uint8Array(buffer)';
  if (ArrayBuffer.isView(value)) return 'pass new Uint8Array(view.buffer, view.byteOffset, view.byteLength)';
  if (types.isPromise(value)) return 'await it first';
  if (types.isBoxedPrimitive(value) || /^(?:number|boolean|bigint)$/.test(typeof value)) return 'pass String(value)';
  if (typeof value !== 'object' || value === null) return 'pass a text or bytes';
  const name = nameOf(value);
  return name === 'Blob' || name === 'File' ? 'pass await blob.bytes()' : 'pass JSON.stringify(value), for example';
}
