/** How one kind of server reads a path, from what it gets to what it routes by. Written from their documentation and sources, not from ours. */
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
  // Express: what is in the URL, without case and without a slash at the end.
  node: path => path.toLowerCase().replace(/(.)\/$/, '$1'),
  // net/http: URL.Path is decoded, cleanPath removes dots.
  go: path => clean(decode(path)),
  wsgi: path => merged(decode(path)),
  // RFC 3986 §5.2.4 to the letter.
  'dot segments before slashes': path => merged(resolved(decode(withoutParameters(path)))),
  iis: path => named(clean(decode(path).replaceAll('\\', '/'))),
  'iis before it was mended': path => named(clean(decode(decode(path)).replaceAll('\\', '/'))),
  'a server that cuts at the first parameter': path => clean(decode(path.split(';')[0]!)),
};

/** Is it `/a/b` or something below it? */
export function isWithin(path: string, area: string): boolean {
  return path === area || path.startsWith(`${area}/`);
}
