import { hash } from 'node:crypto';

/**
 * PostgreSQL's `text` holds neither U+0000 nor unpaired surrogates, a database need not be UTF-8, and an index entry
 * has its limit. So all text of ours that is stored is printable ASCII: JSON with everything else escaped, or, for what
 * is looked up, a key.
 */

const PLAIN = /^[ -}]{1,200}$/;

/**
 * A text to look up: itself where that can be stored as it is (so that a person finds it, too), else `~` and its
 * SHA-256, and the text as JSON.
 */
export function textKey(text: string): { readonly key: string; readonly json: string | null } {
  if (PLAIN.test(text)) return { key: text, json: null };
  // UTF-16, because UTF-8 makes one of all unpaired surrogates.
  return { key: `~${hash('sha256', Buffer.from(text, 'utf16le'), 'base64url')}`, json: toAsciiJson(text) };
}

/**
 * The JSON texts of keys as one array parameter, with an empty text for null: where `array_nulls` is off, the server
 * takes a null in an array for the text `NULL`. Read by `arrayOfJson`.
 */
export function jsonsOf(keys: readonly { readonly json: string | null }[]): string[] {
  return keys.map(({ json }) => json ?? '');
}

/** What the statement makes of the parameter of `jsonsOf`. */
export function arrayOfJson(parameter: string): string {
  return `array_replace(${parameter}::text[], ''::text, NULL::text)`;
}

export function fromTextKey(key: string, json: string | null): string {
  return json === null ? key : (JSON.parse(json) as string);
}

/** JSON of anything but `undefined`, in printable ASCII. */
export function toAsciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[^ -~]/g,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * An object as JSON of which each value is the JSON *text* of the field, so that `jsonb` keeps it letter for letter
 * (digits, order, U+0000) and still replaces single fields. A field that is `undefined` becomes null: "remove it".
 */
export function toFieldsJson(fields: object): string {
  const encoded = Object.entries(fields).map(([name, value]) => [
    toAsciiJson(name).slice(1, -1),
    value === undefined ? null : toAsciiJson(value),
  ]);
  return JSON.stringify(Object.fromEntries(encoded));
}

export function fromFieldsJson(json: string): object {
  const encoded = Object.entries(JSON.parse(json) as Record<string, string>);
  return Object.fromEntries(
    encoded.map(([name, value]) => [JSON.parse(`"${name}"`) as string, JSON.parse(value) as unknown]),
  );
}

/**
 * SQL for a column of bytes, and of numbers in double precision, as text that no setting of the server changes
 * (`bytea_output`, `extra_float_digits`).
 */
export const byteaText = (column: string) => `encode(${column}, 'hex')`;
export const doubleText = (column: string) => `encode(float8send(${column}), 'hex')`;

export function fromByteaText(text: string): Buffer {
  return Buffer.from(text, 'hex');
}

export function fromDoubleText(text: string): number {
  return Buffer.from(text, 'hex').readDoubleBE();
}

/**
 * Several values as one parameter, which goes over the wire as it is; in an array each would be written as hexadecimal
 * digits.
 *
 * @returns the bytes, the size of each value, and where it begins; the first byte is 1, as in SQL.
 */
export function packValues(values: readonly Uint8Array[]) {
  const starts: number[] = [];
  const sizes: number[] = [];
  let next = 1;
  for (const { length } of values) {
    starts.push(next);
    sizes.push(length);
    next += length;
  }
  const [only] = values;
  const bytes =
    values.length === 1 ? Buffer.from(only!.buffer, only!.byteOffset, only!.byteLength) : Buffer.concat(values);
  return { bytes, starts, sizes };
}
