import * as z from 'zod';
import { type Duration, parseDuration } from '../base/duration.ts';
import { nearestName } from '../base/nearest-name.ts';
import { parseSize, type Size } from '../base/size.ts';

/**
 * For `safeParse`: it does not write a program for each schema first, which would pay from some hundreds of values on. Not as
 * a setting of the library: all its copies in a process have the same ones.
 */
export const ONCE: z.core.ParseContext<z.core.$ZodIssue> = { jitless: true };

/** A schema for every key of `T`: a key added to the type and forgotten here does not compile. */
export type Shape<T> = { [K in keyof Required<T>]: z.ZodType<T[K]> };

/** An object that refuses keys it does not know; `what` says where in the message. */
export function section<T extends object>(what: string, shape: Shape<T>): z.ZodType<T> {
  const known = Object.keys(shape);
  const keys = z.strictObject(shape, {
    // One line for each key: `parse.ts` gives each its own place in the file.
    error: issue =>
      issue.code === 'unrecognized_keys' ? issue.keys.map(key => unknownKey(key, what, known)).join('\n') : undefined,
  });
  return z.preprocess(refuseInstances, keys).meta({ title: what }) as unknown as z.ZodType<T>;
}

/** What a value is that is an object: keys and values, or for example `a Map`. */
export function kindOf(value: object): string {
  const tag = Object.prototype.toString.call(value).slice('[object '.length, -1);
  return tag === 'Object' ? 'keys and values' : `a ${tag}`;
}

/** A `Map`, a `Date` or a promise has no keys, and would be taken for a section without any. */
function refuseInstances(value: unknown, context: z.core.$RefinementCtx): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const kind = kindOf(value);
  if (kind === 'keys and values') return value;
  context.addIssue({ code: 'custom', message: `expected keys and values, got ${kind}` });
  return z.NEVER;
}

function unknownKey(key: string, what: string, known: readonly string[]): string {
  // `port:80` is a name to YAML.
  const [, start] = /^(\w+):/.exec(key) ?? [];
  if (start !== undefined && known.includes(start))
    return `unknown key ${JSON.stringify(key)} in ${what}; write a blank after "${start}:"`;
  const near = nearestName(key, known);
  return `unknown key ${JSON.stringify(key)} in ${what}; ${near ? `did you mean "${near}"?` : `known keys: ${known.join(', ')}`}`;
}

export interface Measure<T> {
  readonly what: string;
  readonly parse: (value: T & (string | number)) => number;
  readonly example: string;
  /** What -1 means. */
  readonly endless: string;
  /** May it be 0? Default false. */
  readonly takesZero?: boolean;
}

export const DURATION: Measure<Duration> = {
  what: 'a duration',
  parse: parseDuration,
  example: '"30s"',
  endless: 'for never',
};
export const SIZE: Measure<Size> = { what: 'a size', parse: parseSize, example: '"64KiB"', endless: 'for no limit' };

/**
 * A value written as text or number that becomes a whole number above 0, of milliseconds or bytes. -1 stays -1, so that
 * the result is a valid document again.
 *
 * @param whyLimited Refuses -1, saying what would happen.
 */
export function measured<T>(
  { what, parse, example, endless, takesZero }: Measure<T>,
  whyLimited?: string,
): z.ZodType<T> {
  return z
    .union([z.number(), z.string()], { error: `expected ${what} such as ${example}` })
    .transform((value, context) => {
      const refuse = (message: string) => {
        context.addIssue({ code: 'custom', message });
        return z.NEVER;
      };
      let amount: number;
      try {
        amount = Math.ceil(parse(value as T & (string | number)));
      } catch (error) {
        return refuse((error as Error).message);
      }
      if (amount === 0 && !takesZero)
        return refuse(`is 0; write for example ${example}${whyLimited ? '' : `, or -1 ${endless}`}`);
      if (amount < Number.POSITIVE_INFINITY) return amount;
      return whyLimited ? refuse(`needs a limit: ${whyLimited}; write for example ${example}`) : -1;
    }) as unknown as z.ZodType<T>;
}

export const duration: z.ZodType<Duration> = measured(DURATION);
export const size: z.ZodType<Size> = measured(SIZE);
export const flag: z.ZodType<boolean> = z.boolean();
export const text: z.ZodType<string> = z.string().min(1, { error: 'is empty' });

/** Text that `test` accepts; `remedy` says what it should look like. */
export function textLike(test: (value: string) => boolean, remedy: string): z.ZodType<string> {
  return z.string().refine(test, { error: ({ input }) => `${JSON.stringify(input)} is ${remedy}` });
}

export function whole(min: number, max = Number.MAX_SAFE_INTEGER): z.ZodType<number> {
  const whole = z.number().refine(value => Number.isInteger(value) && value >= min && value <= max, {
    error: ({ input }) => {
      const isBounded = max < Number.MAX_SAFE_INTEGER || (input as number) > max;
      return `expected a whole number ${isBounded ? `from ${min} to ${max}` : `of at least ${min}`}, got ${input}`;
    },
  });
  return whole.meta({ type: 'integer', minimum: min, maximum: max });
}

export const headerName: z.ZodType<string> = textLike(
  value => /^[A-Za-z][\w-]*$/.test(value),
  'not a name; take letters, digits, - and _',
);

const secrets = new WeakSet<object>();

/** What is written there may be a secret: it is shown to nobody. */
export function secret<T extends z.ZodType>(schema: T): T {
  secrets.add(schema);
  return schema;
}

export function isSecret(schema: object): boolean {
  return secrets.has(schema);
}
