import { generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** One value of ASN.1 in DER (X.690 §8.1): tag, length, content. */
function der(tag: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  const length = content.length < 0x80 ? [content.length] : [0x82, content.length >> 8, content.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

const sequence = (...contents: Uint8Array[]) => der(0x30, ...contents);
const oid = (hex: string) => der(0x06, Buffer.from(hex, 'hex'));
const utcTime = (ms: number) => der(0x17, Buffer.from(`${new Date(ms).toISOString().replace(/^20|[-:T]|\.\d+/g, '')}`));

const ECDSA_WITH_SHA256 = sequence(oid('2a8648ce3d040302'));
const COMMON_NAME = oid('550403');
const SUBJECT_ALT_NAME = oid('551d11');
const BASIC_CONSTRAINTS = oid('551d13');
const DAY_MS = 86_400_000;

/** A key pair with a name, which signs certificates. */
export interface Authority {
  readonly name: string;
  readonly privateKey: KeyObject;
  /** Its own certificate, PEM. */
  readonly certificate: string;
}

export interface CertificateOptions {
  /** The common name. */
  readonly name: string;
  /** Default: the name. */
  readonly hosts?: readonly string[];
  /** Default: signed with itself. */
  readonly authority?: Authority;
  /** In ms since the epoch, in whole seconds. Default: tomorrow. */
  readonly validTo?: number;
  /** In ms since the epoch, in whole seconds. Default: yesterday. */
  readonly validFrom?: number;
  /** Where the certificate of its authority is. Default: it does not say. */
  readonly issuerUrl?: string;
}

export interface RevocationListOptions {
  readonly authority: Authority;
  /** PEM. */
  readonly revoked?: readonly string[];
  /** In ms since the epoch. Default: an hour ago. */
  readonly thisUpdate?: number;
  /** In ms since the epoch; undefined for never. Default: in 30 days. */
  readonly nextUpdate?: number | undefined;
}

/** A list of revoked certificates, PEM (RFC 5280 §5.1). */
export function createRevocationList(options: RevocationListOptions): string {
  const { authority, revoked = [], thisUpdate = Date.now() - 3_600_000 } = options;
  const nextUpdate = 'nextUpdate' in options ? options.nextUpdate : Date.now() + 30 * DAY_MS;
  const entries = revoked.map(pem => {
    const serial = der(0x02, Buffer.from(new X509Certificate(pem).serialNumber, 'hex'));
    return sequence(serial, utcTime(thisUpdate));
  });
  const body = sequence(
    der(0x02, Buffer.from([1])), // version 2
    ECDSA_WITH_SHA256,
    distinguished(authority.name),
    utcTime(thisUpdate),
    ...(nextUpdate === undefined ? [] : [utcTime(nextUpdate)]),
    ...(entries.length > 0 ? [sequence(...entries)] : []),
  );
  return signedPem('X509 CRL', body, authority.privateKey);
}

export function createAuthority(name: string): Authority {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const isAuthority = sequence(
    BASIC_CONSTRAINTS,
    der(0x01, Buffer.from([0xff])),
    der(0x04, sequence(der(0x01, Buffer.from([0xff])))),
  );
  return {
    name,
    privateKey,
    certificate: signed({ name, publicKey, extensions: [isAuthority], issuer: { name, privateKey } }),
  };
}

/** A key and a certificate, both PEM, valid today (RFC 5280 §4.1). */
export function createCertificate({
  name,
  hosts = [name],
  authority,
  validTo,
  validFrom,
  issuerUrl,
}: CertificateOptions): {
  certificate: string;
  key: string;
} {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const names = hosts.map(host => der(0x82, Buffer.from(host)));
  const altNames = sequence(SUBJECT_ALT_NAME, der(0x04, sequence(...names, der(0x87, Buffer.from([127, 0, 0, 1])))));
  const issuer = authority ?? { name, privateKey };
  const extensions = issuerUrl === undefined ? [altNames] : [altNames, infoAccess(issuerUrl)];
  const certificate = signed({ name, publicKey, extensions, issuer, validTo, validFrom });
  return { certificate, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
}

/** Authority information access: CA issuers (RFC 5280 §4.2.2.1). */
function infoAccess(url: string): Buffer {
  const issuers = sequence(oid('2b06010505073002'), der(0x86, Buffer.from(url)));
  return sequence(oid('2b06010505070101'), der(0x04, sequence(issuers)));
}

/** The same in files: `NAME.crt` and `NAME.key`. */
export function writeCertificate(folder: string, options: CertificateOptions): { certificate: string; key: string } {
  const made = createCertificate(options);
  const paths = { certificate: join(folder, `${options.name}.crt`), key: join(folder, `${options.name}.key`) };
  writeFileSync(paths.certificate, made.certificate);
  writeFileSync(paths.key, made.key, { mode: 0o600 });
  return paths;
}

/** Writes a key and a certificate for `localhost`, signed with itself, and says where. */
export function writeSelfSignedCertificate(folder: string): { certificate: string; key: string } {
  return writeCertificate(folder, { name: 'localhost' });
}

function signed(of: {
  name: string;
  publicKey: KeyObject;
  extensions: readonly Uint8Array[];
  issuer: { name: string; privateKey: KeyObject };
  validTo?: number | undefined;
  validFrom?: number | undefined;
}): string {
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), // version 3
    der(0x02, Buffer.from([0x01]), randomBytes(8)), // the serial number, positive
    ECDSA_WITH_SHA256,
    distinguished(of.issuer.name),
    sequence(utcTime(of.validFrom ?? Date.now() - DAY_MS), utcTime(of.validTo ?? Date.now() + DAY_MS)),
    distinguished(of.name),
    of.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...of.extensions)),
  );
  return signedPem('CERTIFICATE', body, of.issuer.privateKey);
}

function distinguished(name: string): Buffer {
  return sequence(der(0x31, sequence(COMMON_NAME, der(0x0c, Buffer.from(name)))));
}

function signedPem(label: string, body: Buffer, key: KeyObject): string {
  const signature = der(0x03, Buffer.from([0]), sign('sha256', body, key));
  const base64 = sequence(body, ECDSA_WITH_SHA256, signature)
    .toString('base64')
    .replace(/.{1,64}/g, '$&\n');
  return `-----BEGIN ${label}-----\n${base64}-----END ${label}-----\n`;
}
