/** A key is at least as long, whatever it is written in. */
export const MIN_KEY_BYTES = 32;

const HEX = /^(?:[0-9a-f]{2})+$/i;
const BASE64 = /^[A-Za-z0-9+/_-]+={0,2}$/;

/** Whoever hands over the content of a file as it is has its line end too. */
const LINE_ENDS = ['', '\n', '\r\n'];

/**
 * The key that a file holds: bytes in base64, base64url or hexadecimal digits, with white space, line ends and a byte
 * order mark as they come, or the bytes themselves. Undefined when it is neither: a text that means something else, or
 * less than 32 bytes.
 */
export function keyInFile(content: Buffer): Uint8Array | undefined {
  const text = textOf(content);
  const key = text === undefined ? Buffer.from(content) : decode(text);
  return key !== undefined && key.length >= MIN_KEY_BYTES ? key : undefined;
}

/**
 * The keys of a file that a configuration names: the first signs, every one verifies.
 *
 * The first is the text of the file, as it stands: so read it all processes of the release before, which may still run
 * and would sign out whoever comes with a ticket that is signed by another.
 */
export function keysInNamedFile(content: Buffer): Uint8Array[] {
  const text = Buffer.from(namedText(content));
  const key = keyInFile(content);
  return [...(text.length >= MIN_KEY_BYTES || !key ? [text] : []), ...(key ? [key] : [])];
}

/**
 * The same key in each way of writing it and handing it over, as it was given first: a program that has the bytes, one
 * that has the content of a file, and one that names the file verify each other's tickets.
 */
export function formsOf(given: Uint8Array): Uint8Array[] {
  const content = Buffer.from(given.buffer, given.byteOffset, given.byteLength);
  const text = textOf(content);
  const decoded = text === undefined ? undefined : decode(text);
  const key = decoded && decoded.length >= MIN_KEY_BYTES ? decoded : content;
  const texts = [namedText(content), namedText(key), ...(text === undefined ? [] : [text]), ...writingsOf(key)];
  const written = texts.flatMap(one => LINE_ENDS.map(end => Buffer.from(one + end)));
  const forms = new Map([content, key, ...written].map(form => [form.toString('latin1'), form]));
  // Blanks are no part of a text: without them it may be too short to be a key.
  return [...forms.values()].filter(({ length }) => length >= MIN_KEY_BYTES);
}

/** How a file that is named was always read, raw bytes too. */
function namedText(content: Buffer): string {
  return content.toString().trim();
}

/** What the usual programs write: with and without padding, in one line, and in theirs. */
function writingsOf(key: Buffer): string[] {
  const base64 = key.toString('base64');
  const padded = [base64, base64.replaceAll('+', '-').replaceAll('/', '_')];
  const hex = key.toString('hex');
  const oneLine = [...padded, ...padded.map(text => text.replaceAll('=', '')), hex, hex.toUpperCase()];
  // openssl; base64; xxd
  const inLines = [...linesOf(base64, 64), ...linesOf(base64, 76), ...linesOf(hex, 60)];
  return [...oneLine, ...inLines];
}

function linesOf(text: string, width: number): string[] {
  if (text.length <= width) return [];
  const lines = Array.from({ length: Math.ceil(text.length / width) }, (_, line) =>
    text.slice(line * width, (line + 1) * width),
  );
  return [lines.join('\n'), lines.join('\r\n')];
}

/** Without what surrounds it; undefined for bytes that are no text. */
function textOf(content: Buffer): string | undefined {
  const isUtf16 = content[0] === 0xff && content[1] === 0xfe;
  try {
    const decoder = new TextDecoder(isUtf16 ? 'utf-16le' : 'utf-8', { fatal: true, ignoreBOM: true });
    const text = decoder.decode(content).trim(); // a byte order mark goes as well
    // Raw bytes may begin so, and most pairs of bytes are a character.
    return isUtf16 && !decode(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

/** Digits first: they are letters of base64 too. */
function decode(text: string): Buffer | undefined {
  const letters = text.replaceAll(/\s/g, '');
  if (HEX.test(letters) && letters.length >= 2 * MIN_KEY_BYTES) return Buffer.from(letters, 'hex');
  return BASE64.test(letters) ? Buffer.from(letters, 'base64') : undefined;
}
