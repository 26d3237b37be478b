/** What ends a line, a field in quotes, or works as a terminal escape. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const UNSAFE = /["\\\u0000-\u001f\u007f-\u009f\u2028\u2029]/;
const EACH_UNSAFE = new RegExp(UNSAFE, 'g');
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

/** Nothing from the network may end a line, a quoted field, or work as a terminal escape (Apache does the same). */
export function escapeQuoted(value: string): string {
  // Most values have nothing of it, and each line of an access log has several.
  if (!UNSAFE.test(value)) return value;
  return value.replaceAll(EACH_UNSAFE, character =>
    character === '"' || character === '\\' ? `\\${character}` : escapeControl(character),
  );
}

/** For a field without quotes, which a space would end. */
export function escapeField(value: string): string {
  return escapeQuoted(value).replaceAll(' ', '\\x20');
}

/** For text that people read: quotes stay as they are. */
export function escapeControls(value: string): string {
  return value.replaceAll(CONTROLS, escapeControl);
}

/** What JSON leaves as it is, and terminals and programs that read lines may not. */
const JSON_UNSAFE = /[\u007f-\u009f\u2028\u2029]/g;

/** Beside what JSON does not take, halves of characters. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const NOT_PLAIN = /["\\\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]/;

/** A text as a value of JSON, with its quotes, that works as no terminal escape and is in one line for every program. */
export function jsonText(value: string): string {
  return NOT_PLAIN.test(value) ? escapeJson(JSON.stringify(value)) : `"${value}"`;
}

/** One line of JSON, with its newline, that works as no terminal escape and is one line for every program. */
export function jsonLine(value: object): string {
  return `${escapeJson(JSON.stringify(value))}\n`;
}

/** The same JSON, as `jsonLine` has it. */
export function escapeJson(json: string): string {
  return json.replaceAll(JSON_UNSAFE, character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function escapeControl(character: string): string {
  const code = character.charCodeAt(0);
  return code > 0xff ? `\\u${code.toString(16)}` : `\\x${code.toString(16).padStart(2, '0')}`;
}

const APACHE_NAMES: Readonly<Record<number, string>> = { 8: '\\b', 9: '\\t', 10: '\\n', 11: '\\v', 13: '\\r' };
/** Anything but printable ASCII, and of that quotes and backslashes. */
const APACHE_UNSAFE = /[^ !#-[\]-~]/;

/** As Apache escapes each value of a `LogFormat`: bytes that are not printable ASCII as `\xhh`, UTF-8 ones too. */
export function escapeAsApache(value: string, encoding: 'utf8' | 'latin1' = 'utf8'): string {
  if (!APACHE_UNSAFE.test(value)) return value;
  let escaped = '';
  for (const byte of Buffer.from(value, encoding)) {
    if (byte === 0x22 || byte === 0x5c) escaped += `\\${String.fromCharCode(byte)}`;
    else if (byte >= 0x20 && byte < 0x7f) escaped += String.fromCharCode(byte);
    else escaped += APACHE_NAMES[byte] ?? `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return escaped;
}
