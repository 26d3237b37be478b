/** An attribute of a name, such as `CN` and `alice`. What has no short name has its number (`1.2.3.4`). */
export interface NameAttribute {
  readonly type: string;
  readonly value: string;
}

/**
 * Reads a subject or issuer as Node writes it: one RDN a line, several attributes of one with ` + ` between them, values
 * escaped as in RFC 4514 §2.4. Without the escapes a common name could hold what looks like another attribute.
 *
 * @returns in the order of the certificate; undefined when it cannot be read.
 */
export function readName(text: string): NameAttribute[][] | undefined {
  if (text === '') return [];
  const rdns = text.split('\n').map(line => splitUnescaped(line, ' + ').map(readAttribute));
  return rdns.every(rdn => rdn.every(attribute => attribute !== undefined)) ? (rdns as NameAttribute[][]) : undefined;
}

/**
 * Reads a name as people write it, and `openssl x509 -nameopt RFC2253` does: `CN=alice,OU=Staff,O=Example` (RFC 4514).
 *
 * @returns in the order of a certificate, which is the other way round; undefined when it is not one.
 */
export function parseName(text: string): NameAttribute[][] | undefined {
  const rdns = splitUnescaped(text, ',').map(rdn =>
    splitUnescaped(rdn, '+').map(attribute => readAttribute(attribute.replace(/^ +/, ''))),
  );
  if (!rdns.every(rdn => rdn.every(attribute => attribute !== undefined))) return undefined;
  return (rdns as NameAttribute[][]).reverse();
}

/**
 * The name in one line, as in RFC 4514. What is special in it is written by its number (`\2C`), `=` too: so nothing in a
 * value can look like an attribute, whatever pattern is used on the text.
 */
export function formatName(rdns: readonly (readonly NameAttribute[])[]): string {
  return [...rdns]
    .reverse()
    .map(rdn => rdn.map(({ type, value }) => `${type}=${escapeValue(value)}`).join('+'))
    .join(',');
}

/** Every value of one attribute: several, when the certificate says it several times. */
export function valuesOf(rdns: readonly (readonly NameAttribute[])[], type: string): string[] {
  return rdns.flatMap(rdn => rdn.flatMap(attribute => (attribute.type === type ? [attribute.value] : [])));
}

/**
 * Reads alternative names as Node writes them: `DNS:a.example, email:a@example.com`, with quotes as in JSON where a value
 * has something special.
 *
 * @returns undefined when it cannot be read.
 */
export function readAltNames(text: string): NameAttribute[] | undefined {
  const names: NameAttribute[] = [];
  for (let rest = text; rest !== ''; ) {
    const match = /^([^:,"]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/.exec(rest);
    if (!match) return undefined;
    const [whole, type = '', value = ''] = match;
    rest = rest.slice(whole.length);
    if (!value.startsWith('"')) names.push({ type, value });
    else
      try {
        names.push({ type, value: String(JSON.parse(value)) });
      } catch {
        return undefined;
      }
  }
  return names;
}

/** An attribute `TYPE=value`; undefined when it is none. */
function readAttribute(text: string): NameAttribute | undefined {
  const at = text.indexOf('=');
  if (at < 1) return undefined;
  const type = text.slice(0, at);
  const value = unescapeValue(text.slice(at + 1));
  return /^[\w.-]+$/.test(type) && value !== undefined ? { type, value } : undefined;
}

/** RFC 4514 §3: `\` and two hex digits are a byte of UTF-8, `\` and another character is that one. */
function unescapeValue(text: string): string | undefined {
  const bytes: Buffer[] = [];
  for (let at = 0; at < text.length; ) {
    if (text[at] !== '\\') {
      const end = text.indexOf('\\', at);
      bytes.push(Buffer.from(text.slice(at, end === -1 ? undefined : end)));
      at = end === -1 ? text.length : end;
    } else if (/^[\dA-Fa-f]{2}$/.test(text.slice(at + 1, at + 3))) {
      bytes.push(Buffer.from(text.slice(at + 1, at + 3), 'hex'));
      at += 3;
    } else {
      if (at + 1 === text.length) return undefined;
      const [character = ''] = text.slice(at + 1);
      bytes.push(Buffer.from(character));
      at += 1 + character.length;
    }
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(bytes));
  } catch {
    return undefined;
  }
}

const SPECIAL = /[,+"\\<>;=#\p{Cc}]|^ | $/gu;

function escapeValue(value: string): string {
  return value.replaceAll(SPECIAL, character =>
    Buffer.from(character).toString('hex').toUpperCase().replaceAll(/../g, '\\$&'),
  );
}

function splitUnescaped(text: string, separator: string): string[] {
  const parts: string[] = [];
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text.startsWith(separator, at)) {
      parts.push(text.slice(start, at));
      start = at + separator.length;
      at = start - 1;
    }
  }
  return [...parts, text.slice(start)];
}
