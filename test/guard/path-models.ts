/**
 * How one kind of server reads a path, from what it gets to what it routes by. Written from their documentation and
 * sources, not from ours.
 */
export type PathModel = (path: string) => string;

const decode = (text: string) =>
  text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
const withoutParameters = (text: string) =>
  text
    .split('/')
    .map(segment => segment.split(';')[0]!)
    .join('/');
const merged = (text: string) => text.replace(/\/+/g, '/');

function resolved(text: string): string {
  const out: string[] = [];
  for (const segment of text.split('/').slice(1)) {
    if (segment === '..') out.pop();
    else if (segment !== '.') out.push(segment);
  }
  return `/${out.join('/')}`;
}

const clean = (text: string) => resolved(merged(text));
const named = (text: string) =>
  text
    .toLowerCase()
    .split('/')
    .map(segment => segment.replace(/[. ]+$/, ''))
    .filter(segment => segment !== '')
    .map(segment => `/${segment}`)
    .join('');

/** What the bytes of a path are in UTF-8. */
const unicode = (bytes: string) => Buffer.from(bytes, 'latin1').toString('utf8');
const bytes = (text: string) => Buffer.from(text, 'utf8').toString('latin1');
const eachSegment = (path: string, change: (segment: string) => string) => path.split('/').map(change).join('/');
/** `String.trim()` of Java. */
const trimmed = (text: string) => text.replace(/^[\0- ]+/, '').replace(/[\0- ]+$/, '');

/** As decoders did that only shift bits: the shortest form is not asked for. */
function utf8OfAnyLength(text: string): string {
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const lead = text.charCodeAt(i);
    const more = lead < 0xc0 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : lead < 0xf8 ? 3 : lead < 0xfc ? 4 : 5;
    const rest = text.slice(i + 1, i + 1 + more);
    if (more === 0 || !/^[\x80-\xbf]+$/.test(rest) || rest.length < more) {
      out += text[i];
      continue;
    }
    let code = lead & (0x3f >> more);
    for (const byte of rest) code = code * 64 + (byte.charCodeAt(0) & 0x3f);
    out += code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? '?' : bytes(String.fromCodePoint(code));
    i += more;
  }
  return out;
}

/** The path of what the parser of URLs makes of it (WHATWG URL). */
function parsed(text: string): string {
  return URL.parse(unicode(text), 'http://backend')?.pathname ?? '/';
}

/** Servers that read a path by design as they do. What they take for a path is what the gateway has to take it for. */
export const models: Readonly<Record<string, PathModel>> = {
  // Parameters off each segment, decoded, then normalised; `encodedSolidusHandling="decode"`.
  tomcat: path => clean(decode(withoutParameters(path))),
  'tomcat that takes backslashes': path => clean(decode(withoutParameters(path)).replaceAll('\\', '/')),
  // Dot segments before and after the decoding.
  jetty: path => clean(decode(clean(withoutParameters(path)))),
  // Spring takes parameters off what the container has decoded.
  spring: path => clean(withoutParameters(decode(path))),
  nginx: path => clean(decode(path)),
  'nginx before tomcat': path => clean(decode(withoutParameters(clean(decode(path))))),
  // `AllowEncodedSlashes On`, `MergeSlashes On`.
  apache: path => clean(decode(path)),
  'apache before apache': path => clean(decode(clean(decode(path)))),
  // net/http: URL.Path is decoded, cleanPath removes dots.
  go: path => clean(decode(path)),
  wsgi: path => merged(decode(path)),
  // RFC 3986 §5.2.4 to the letter.
  'dot segments before slashes': path => merged(resolved(decode(withoutParameters(path)))),
  'a server that takes UTF-8 of any length': path => clean(utf8OfAnyLength(decode(path))),
};

/**
 * Servers that are lax with names, or that make mistakes. No stricter policy may be walked round by them; they may miss
 * a path that is declared.
 */
export const laxModels: Readonly<Record<string, PathModel>> = {
  // Express: what is in the URL, without case and without a slash at the end.
  node: path => path.toLowerCase().replace(/(.)\/$/, '$1'),
  iis: path => named(clean(decode(path).replaceAll('\\', '/'))),
  'iis before it was mended': path => named(clean(decode(decode(path)).replaceAll('\\', '/'))),
  'iis behind a server that decodes': path =>
    named(
      clean(
        decode(path).replace(/%u([0-9a-f]{4})|%([0-9a-f]{2})/gi, (_, wide, byte) =>
          bytes(String.fromCharCode(Number.parseInt(wide ?? byte, 16))),
        ),
      ),
    ),
  // NTFS: `name::$DATA` is the file, `name:$I30:$INDEX_ALLOCATION` the folder.
  ntfs: path =>
    named(
      eachSegment(clean(decode(path)), segment => segment.replace(/:(?:\$i30)?:\$(?:data|index_allocation)$/i, '')),
    ),
  // A file system without case, in one form of Unicode (APFS, NTFS).
  'a file system without case': path =>
    unicode(clean(decode(path)))
      .normalize('NFD')
      .toUpperCase()
      .toLowerCase()
      .normalize('NFC'),
  'a server that compares by the form of compatibility': path =>
    unicode(clean(decode(path)))
      .normalize('NFKC')
      .toLowerCase(),
  'a server that brings what it has decoded into the form of compatibility': path =>
    clean(unicode(decode(path)).normalize('NFKC')).toLowerCase(),
  // `equalsIgnoreCase`: each character to upper case, then to lower case.
  'java without case': path =>
    [...unicode(clean(decode(path)))].map(character => character.toUpperCase().toLowerCase()).join(''),
  // `errors='ignore'` of Python, `//IGNORE` of iconv.
  'a server that leaves out what is no character': path => clean(unicode(decode(path)).replaceAll('\ufffd', '')),
  // AntPathMatcher with trimTokens, the default of Spring before 4.3.
  'spring of old': path => `/${clean(decode(path)).split('/').map(trimmed).filter(Boolean).join('/')}`,
  'python that strips names': path => clean(eachSegment(unicode(decode(path)), segment => segment.trim())),
  // `$` of a regular expression also matches before a line feed at the end.
  'a route by a regular expression': path => clean(decode(path)).replace(/\n$/, ''),
  // Shiro before 1.5: up to the first `;`.
  'a server that cuts at the first parameter': path => clean(decode(path.split(';')[0]!)),
  'a server that cuts what it has decoded': path => clean(decode(path).split(';')[0]!),
  'a server that parses what it has decoded': path => clean(decode(parsed(decode(path)))),
  'a server that takes a query off what it has decoded': path => clean(decode(path).split(/[?#]/)[0]!),
  // `proxy_pass http://backend$uri` of nginx: the line of the next request is what was decoded. With blanks and no line
  // feed it is a bad one.
  'nginx that forwards what it has decoded': path => {
    const [line, ...more] = decode(path).split(/\r?\n/);
    return clean(decode(more.length > 0 ? line!.split(' ')[0]! : line!));
  },
};

/** Is it `/a/b` or something below it? */
export function isWithin(path: string, area: string): boolean {
  return path === area || path.startsWith(`${area}/`);
}
