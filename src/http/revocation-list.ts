import { constants, type KeyObject, type VerifyKeyObjectInput, verify, X509Certificate } from 'node:crypto';
import { DerReader, type DerReader as Reader } from './der.ts';

/** What a list of revoked certificates says (RFC 5280 §5.1). */
export interface RevocationList {
  /** Whose certificates it is about: equal for equal names, however they are encoded. */
  readonly issuer: string;
  /** The same for messages: `CN=Clients CA`. */
  readonly issuerName: string;
  /** In ms since the epoch. */
  readonly thisUpdate: number;
  /** When it is over, in ms since the epoch. Undefined: never. */
  readonly nextUpdate: number | undefined;
  /** Serial numbers in upper-case hex without leading zeros. */
  readonly serials: ReadonlySet<string>;
  readonly seal: Seal;
}

/** The signature of a list. */
interface Seal {
  /** What is signed. */
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
}

/** A certificate, as lists name it. */
export interface CertificateId {
  readonly issuer: string;
  readonly serial: string;
}

const SEQUENCE = 0x30;
const SET = 0x31;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OBJECT_IDENTIFIER = 0x06;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const UNIVERSAL_STRING = 0x1c;
const BMP_STRING = 0x1e;
/** Context-specific tag 0, constructed: the version of a certificate. */
const VERSION = 0xa0;

/** The blocks of one label in a PEM file (RFC 7468), each as it stands there. */
export function pemBlocks(text: string, label: string): string[] {
  const begin = `-----BEGIN ${label}-----`;
  const end = `-----END ${label}-----`;
  const blocks: string[] = [];
  for (let at = text.indexOf(begin); at !== -1; ) {
    const last = text.indexOf(end, at);
    if (last === -1) throw new TypeError(`a block "${begin}" has no end`);
    blocks.push(`${text.slice(at, last + end.length)}\n`);
    at = text.indexOf(begin, last);
  }
  return blocks;
}

/**
 * Reads the lists of a PEM file.
 *
 * @throws {TypeError} when there is none, with the remedy for DER; or when one of them cannot be read.
 */
export function parseRevocationLists(text: string): { readonly pem: string; readonly list: RevocationList }[] {
  const blocks = pemBlocks(text, 'X509 CRL');
  if (blocks.length === 0)
    throw new TypeError(
      'no "-----BEGIN X509 CRL-----" in it; a list in DER becomes PEM by "openssl crl -inform DER -in LIST -out LIST.pem"',
    );
  return blocks.map(pem => {
    try {
      return { pem, list: readList(Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64')) };
    } catch (cause) {
      throw new TypeError(`not a list of revoked certificates: ${(cause as Error).message}`, { cause });
    }
  });
}

function readList(bytes: Uint8Array): RevocationList {
  const outer = new DerReader(new DerReader(bytes).next(SEQUENCE).content);
  const { content, whole: signed } = outer.next(SEQUENCE);
  const list = new DerReader(content);
  const algorithm = outer.next(SEQUENCE).whole;
  const bits = outer.next(BIT_STRING).content;
  if (list.nextTag === INTEGER) list.next();
  // Both are outside of what is signed, and TLS looks at them: it would take such a list for one that nobody has signed.
  if (!Buffer.from(algorithm).equals(list.next(SEQUENCE).whole))
    throw new RangeError('its signature is by another algorithm than it says');
  if (bits[0] !== 0) throw new RangeError('its signature is not of whole bytes');
  const seal = { signed, signature: bits.subarray(1) };
  const issuer = list.next(SEQUENCE).content;
  const thisUpdate = readTime(list);
  const hasEnd = list.nextTag === UTC_TIME || list.nextTag === GENERALIZED_TIME;
  const nextUpdate = hasEnd ? readTime(list) : undefined;
  const serials = new Set<string>();
  if (list.nextTag === SEQUENCE) {
    const entries = new DerReader(list.next().content);
    while (!entries.isAtEnd) serials.add(hexOf(new DerReader(entries.next(SEQUENCE).content).next(INTEGER).content));
  }
  const attributes = attributesOf(issuer);
  return { issuer: keyOf(attributes), issuerName: textOf(attributes), thisUpdate, nextUpdate, serials, seal };
}

/** The usual one first. */
const HASHES = ['sha256', 'sha384', 'sha512', 'sha1', 'sha224', 'sha3-256', 'sha3-384', 'sha3-512'];
const PADDINGS = [constants.RSA_PKCS1_PADDING, constants.RSA_PKCS1_PSS_PADDING];

/**
 * Is a list signed by the authority that it is of? TLS refuses every client by one that is not, and its list of revoked
 * certificates may be anybody's: such files are usually fetched by http, because they are signed.
 *
 * @param authorities PEM.
 * @returns undefined when it is, or when that cannot be said here, for an authority that is not among these.
 * @throws {Error} when one of the authorities is not a certificate.
 */
export function forgeryIn({ issuer, issuerName, seal }: RevocationList, authorities: string): string | undefined {
  const own = pemBlocks(authorities, 'CERTIFICATE')
    .map(pem => new X509Certificate(pem))
    .filter(certificate => subjectKey(certificate) === issuer);
  if (own.length === 0 || own.some(({ publicKey }) => isSignedBy(seal, publicKey))) return undefined;
  return `the list of "${issuerName}" is not signed by the authority of this name in "ca"; fetch it anew`;
}

/** In any way that the key can: what the list says of that may be forged as well. */
function isSignedBy({ signed, signature }: Seal, key: KeyObject): boolean {
  switch (key.asymmetricKeyType) {
    case 'rsa':
    case 'rsa-pss':
      return HASHES.some(hash => PADDINGS.some(padding => fits(hash, signed, { key, padding }, signature)));
    case 'ec':
    case 'dsa':
      return HASHES.some(hash => fits(hash, signed, { key }, signature));
    default:
      return fits(null, signed, { key }, signature);
  }
}

function fits(hash: string | null, signed: Uint8Array, by: VerifyKeyObjectInput, signature: Uint8Array): boolean {
  try {
    return verify(hash, signed, by, signature);
  } catch {
    // Not by this key.
    return false;
  }
}

/** RFC 5280 §4.1.2.5: years of two digits are 1950 to 2049; always in UTC. */
function readTime(reader: Reader): number {
  const { tag, content } = reader.next();
  const digits = Buffer.from(content).toString('latin1');
  const match = /^(\d\d|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(digits);
  if (!match || (tag !== UTC_TIME && tag !== GENERALIZED_TIME)) throw new RangeError('a time is not one of RFC 5280');
  const [, year = '', month, day, hour, minute, second] = match;
  const century = year.length === 4 ? '' : Number(year) >= 50 ? '19' : '20';
  return Date.parse(`${century}${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}

/** As lists name a certificate. */
export function certificateId({ raw, serialNumber }: X509Certificate): CertificateId {
  return { issuer: keyOf(attributesOf(namesOf(raw).issuer)), serial: serialNumber.replace(/^0+(?=.)/, '') };
}

/** Whose lists are about what this authority has issued: as `issuer` of a list. */
export function subjectKey({ raw }: X509Certificate): string {
  return keyOf(attributesOf(namesOf(raw).subject));
}

function namesOf(certificate: Uint8Array): { readonly issuer: Uint8Array; readonly subject: Uint8Array } {
  const outer = new DerReader(new DerReader(certificate).next(SEQUENCE).content);
  const body = new DerReader(outer.next(SEQUENCE).content);
  if (body.nextTag === VERSION) body.next();
  body.next(INTEGER);
  body.next(SEQUENCE); // the algorithm of the signature
  const issuer = body.next(SEQUENCE).content;
  body.next(SEQUENCE); // from when to when
  return { issuer, subject: body.next(SEQUENCE).content };
}

interface Attribute {
  /** In hex. */
  readonly type: string;
  readonly value: string;
}

/** The attributes of a name, those of one RDN together. */
function attributesOf(name: Uint8Array): Attribute[][] {
  const rdns: Attribute[][] = [];
  for (const reader = new DerReader(name); !reader.isAtEnd; ) {
    const attributes: Attribute[] = [];
    for (const rdn = new DerReader(reader.next(SET).content); !rdn.isAtEnd; ) {
      const pair = new DerReader(rdn.next(SEQUENCE).content);
      const type = Buffer.from(pair.next(OBJECT_IDENTIFIER).content).toString('hex');
      const { tag, content } = pair.next();
      attributes.push({ type, value: decode(tag, content) });
    }
    rdns.push(attributes);
  }
  return rdns;
}

function decode(tag: number, content: Uint8Array): string {
  if (tag === BMP_STRING) return Buffer.from(content).swap16().toString('utf16le');
  if (tag === UNIVERSAL_STRING)
    return Buffer.from(content.filter((_, index) => index % 4 > 1))
      .swap16()
      .toString('utf16le');
  return Buffer.from(content).toString('utf8');
}

/** RFC 5280 §7.1: names are compared without case, and without what blanks are more than one. */
function keyOf(rdns: readonly (readonly Attribute[])[]): string {
  const folded = rdns.map(attributes =>
    attributes.map(({ type, value }) => [type, value.toLowerCase().replace(/\s+/g, ' ').trim()].join('=')).sort(),
  );
  return JSON.stringify(folded);
}

const NAMES: Readonly<Record<string, string>> = { '550403': 'CN', '550406': 'C', '55040a': 'O', '55040b': 'OU' };

function textOf(rdns: readonly (readonly Attribute[])[]): string {
  const known = rdns.flat().flatMap(({ type, value }) => (NAMES[type] ? [`${NAMES[type]}=${value}`] : []));
  return known.reverse().join(', ');
}

function hexOf(integer: Uint8Array): string {
  return Buffer.from(integer)
    .toString('hex')
    .toUpperCase()
    .replace(/^0+(?=.)/, '');
}

/**
 * The list of an issuer that counts: the latest that is not over, or else the latest; of equal ones the first, as
 * OpenSSL takes them.
 */
export function listOf(lists: readonly RevocationList[], issuer: string, now: number): RevocationList | undefined {
  let best: RevocationList | undefined;
  for (const list of lists) {
    if (list.issuer !== issuer) continue;
    const isBetter =
      !best ||
      (isOver(best, now) && !isOver(list, now)) ||
      (isOver(best, now) === isOver(list, now) && list.thisUpdate > best.thisUpdate);
    if (isBetter) best = list;
  }
  return best;
}

export function isOver({ nextUpdate }: RevocationList, now: number): boolean {
  return nextUpdate !== undefined && nextUpdate <= now;
}

/** What is to be said of lists before, or while, they refuse clients. */
export interface DoubtfulList {
  readonly kind: 'over' | 'ends-soon' | 'missing';
  readonly message: string;
}

const WEEK_MS = 7 * 86_400_000;

/**
 * Lists that are over, or will be within a week, and authorities without one: TLS refuses every client of these.
 *
 * @param authorities PEM.
 * @throws {Error} when one of the authorities is not a certificate.
 */
export function doubtfulLists(lists: readonly RevocationList[], authorities: string, now: number): DoubtfulList[] {
  const doubts: DoubtfulList[] = [];
  for (const issuer of new Set(lists.map(list => list.issuer))) {
    const { nextUpdate, issuerName } = listOf(lists, issuer, now)!;
    if (nextUpdate === undefined || nextUpdate > now + WEEK_MS) continue;
    const at = new Date(nextUpdate).toISOString();
    const remedy = 'have its authority write a new one';
    doubts.push(
      nextUpdate <= now
        ? {
            kind: 'over',
            message: `the list of "${issuerName}" has ended at ${at}, and its clients are refused; ${remedy}`,
          }
        : {
            kind: 'ends-soon',
            message: `the list of "${issuerName}" ends at ${at}: its clients are refused then; ${remedy}`,
          },
    );
  }
  for (const pem of pemBlocks(authorities, 'CERTIFICATE')) {
    const certificate = new X509Certificate(pem);
    if (listOf(lists, subjectKey(certificate), now)) continue;
    const name = certificate.subject.split('\n').reverse().join(', ');
    doubts.push({
      kind: 'missing',
      message: `there is no list of "${name}", and certificates that it has signed are refused; add its list to "crl"`,
    });
  }
  return doubts;
}
