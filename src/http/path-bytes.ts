/**
 * What stands for each byte, in every case of its digits: `%c3`, `%C3`. Tables, as hostile paths have thousands of
 * escapes.
 */
export const ESCAPES: readonly (readonly string[])[] = Array.from({ length: 256 }, (_, code) => {
  const [one, other] = [...code.toString(16).padStart(2, '0')].map(digit => [digit, digit.toUpperCase()]);
  return one!.flatMap(a => other!.map(b => `%${a}${b}`));
});

const BYTES: ReadonlyMap<string, string> = new Map(
  ESCAPES.flatMap((escapes, code) => escapes.map((written): [string, string] => [written, String.fromCharCode(code)])),
);

/** Without its escapes, one character for each byte. */
export function decodeBytes(text: string): string {
  return text.replace(/%[0-9a-f]{2}/gi, written => BYTES.get(written)!);
}

/** UTF-8, one character for each byte. */
export function toBytes(text: string): string {
  return Buffer.from(text).toString('latin1');
}
