/** A name and a password as a client has sent them (RFC 7617 §2). */
export interface BasicCredentials {
  readonly user: string;
  readonly password: string;
}

/** Of the header's value. A name of 256 characters and a password of 512 bytes have 2,400 at most. */
const LONGEST_HEADER = 4_096;
const SCHEME = /^basic(?= |$) */i;
const BASE64 = /^[+/0-9A-Za-z]+={0,2}$/;
/** C0 controls and DEL: RFC 7617 §2 has none in a name or password. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
export const CONTROL = /[\0-\x1f\x7f]/;

/** In characters. */
export const LONGEST_USER_NAME = 256;
/** In bytes of UTF-8, as crypt() has it. */
export const LONGEST_PASSWORD = 512;

/**
 * Reads an `Authorization` header of the scheme Basic. The scheme is without case, several blanks may follow it, and
 * base64 may be without padding, as Apache takes them. Name and password are UTF-8 without control characters.
 *
 * @returns undefined when it is of another scheme; a text that says why it cannot be read, and has nothing of it.
 */
export function readBasicCredentials(header: string): BasicCredentials | string | undefined {
  const scheme = SCHEME.exec(header);
  if (!scheme) return undefined;
  if (header.length > LONGEST_HEADER) return 'the credentials are longer than 4096 characters';
  const encoded = header.slice(scheme[0].length);
  if (!BASE64.test(encoded)) return 'the credentials are not base64';
  let text: string;
  try {
    text = utf8.decode(Buffer.from(encoded, 'base64'));
  } catch {
    return 'the credentials are not UTF-8';
  }
  const colon = text.indexOf(':');
  if (colon < 0) return 'the credentials have no colon';
  if (colon === 0) return 'the credentials have no user name';
  if (CONTROL.test(text)) return 'the credentials have a control character';
  const user = text.slice(0, colon);
  const password = text.slice(colon + 1);
  if (user.length > LONGEST_USER_NAME && [...user].length > LONGEST_USER_NAME)
    return `the user name is longer than ${LONGEST_USER_NAME} characters`;
  if (Buffer.byteLength(password) > LONGEST_PASSWORD) return `the password is longer than ${LONGEST_PASSWORD} bytes`;
  return { user, password };
}

/** A byte order mark is of the name, as any other character. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * True for what a realm can be: quoted-string takes more, but nothing says in which charset it would be read (RFC 7617
 * §2.1 has one for credentials only).
 */
export function isRealm(text: string): boolean {
  return /^[\x20-\x7e]{1,256}$/.test(text);
}
