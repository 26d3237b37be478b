import { type ErrorCode, HoldfastError, isHoldfastError, toError, unreadableError } from '../../base/errors.ts';

/**
 * An error on its way to another thread. Copying an error as it is would lose its code and every property of its own,
 * and turn an error of a class into a bare one.
 */
export interface PackedError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  /** `code` and what else is text, a number, or true or false. */
  readonly fields: Readonly<Record<string, string | number | boolean>>;
  readonly isHoldfast: boolean;
  readonly cause: PackedError | undefined;
  /** Those of an `AggregateError`, which often has no message of its own. */
  readonly errors: readonly PackedError[] | undefined;
}

/** Of causes of causes. */
const MAX_DEPTH = 8;
/** Of an `AggregateError`. */
const MAX_ERRORS = 8;
const BUILT_IN = { TypeError, RangeError, SyntaxError, ReferenceError, URIError, EvalError } as const;
/** They have places of their own, or would be taken for the object's. */
const NOT_FIELDS: ReadonlySet<string> = new Set(['name', 'message', 'stack', 'cause', 'errors', '__proto__']);

/** Never throws, and what it returns can be copied, whatever was thrown. */
export function packError(thrown: unknown): PackedError {
  return packCause(thrown, 0);
}

function packCause(thrown: unknown, depth: number): PackedError {
  try {
    return packReadable(toError(thrown), depth);
  } catch {
    // A proxy that throws, or a getter that does not answer the same twice.
    return packReadable(unreadableError(), depth);
  }
}

function packReadable(error: Error, depth: number): PackedError {
  const fields: Record<string, string | number | boolean> = {};
  for (const key of Object.keys(error)) {
    if (NOT_FIELDS.has(key)) continue;
    const value = Object.getOwnPropertyDescriptor(error, key)?.value;
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') fields[key] = value;
  }
  const { name, message, stack } = error;
  if (![name, message, stack ?? ''].every(text => typeof text === 'string'))
    return packReadable(unreadableError(), depth);
  const cause = Object.getOwnPropertyDescriptor(error, 'cause')?.value;
  return {
    ...{ name, message, stack, fields },
    isHoldfast: isHoldfastError(error),
    cause: cause === undefined || depth === MAX_DEPTH ? undefined : packCause(cause, depth + 1),
    errors: depth === MAX_DEPTH ? undefined : errorsOf(error)?.map(one => packCause(one, MAX_DEPTH)),
  };
}

function errorsOf(error: Error): readonly unknown[] | undefined {
  if (!(error instanceof AggregateError) || !Array.isArray(error.errors)) return undefined;
  return error.errors.slice(0, MAX_ERRORS);
}

export function unpackError(packed: PackedError): Error {
  const { name, message, stack, fields, isHoldfast } = packed;
  const cause = packed.cause && unpackError(packed.cause);
  const options = cause && { cause };
  const Kind = Object.hasOwn(BUILT_IN, name) ? BUILT_IN[name as keyof typeof BUILT_IN] : Error;
  const error = isHoldfast
    ? new HoldfastError(fields.code as ErrorCode, message, options)
    : packed.errors
      ? new AggregateError(packed.errors.map(unpackError), message, options)
      : new Kind(message, options);
  if (error.name !== name) Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true });
  if (stack !== undefined) Object.defineProperty(error, 'stack', { value: stack, configurable: true, writable: true });
  return Object.assign(error, fields);
}
