import { generateKeyPairSync, randomBytes, sign, X509Certificate } from 'node:crypto';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { CertificateConfig } from '../../config/config.ts';
import { makeFolder } from '../../drivers/make-folder.ts';
import { checkDisk, type DiskOptions } from '../../session/room/disk.ts';

const DAY_MS = 86_400_000;
/** What browsers take at most. */
const VALID_DAYS = 397;
const RENEWED_BEFORE_DAYS = 30;

/** One value of ASN.1 in DER (X.690 §8.1): tag, length, content. */
function der(tag: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  const length = content.length < 0x80 ? [content.length] : [0x82, content.length >> 8, content.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

const sequence = (...contents: Uint8Array[]) => der(0x30, ...contents);
const oid = (hex: string) => der(0x06, Buffer.from(hex, 'hex'));
const extension = (id: string, ...contents: Uint8Array[]) => sequence(oid(id), der(0x04, sequence(...contents)));
/** `261122045400Z` (X.690 §11.8). */
const utcTime = (ms: number) => der(0x17, Buffer.from(`${new Date(ms).toISOString().replace(/^20|[-:T]|\.\d+/g, '')}`));

const ECDSA_WITH_SHA256 = sequence(oid('2a8648ce3d040302'));
const COMMON_NAME = oid('550403');
const SUBJECT_ALT_NAME = '551d11';
const EXTENDED_KEY_USAGE = '551d25';
const SERVER_AUTHENTICATION = oid('2b06010505070301');
const LOOPBACK_V4 = Buffer.from([127, 0, 0, 1]);
const LOOPBACK_V6 = Buffer.from([...new Array(15).fill(0), 1]);

/**
 * A certificate for `localhost`, `*.localhost` and the loopback addresses, signed with itself, with its key: for
 * development.
 *
 * Made once and kept in `folder`, so that a browser has to be told only once; made anew when it is about to expire.
 *
 * @throws {HoldfastError} ERR_CONFIG_INVALID when the folder cannot be written; ERR_SESSION_NO_ROOM when its disk is
 * too full.
 */
export function developmentCertificate(
  folder: string,
  now: number,
  logger: Logger,
  disk: DiskOptions = {},
): CertificateConfig {
  const files = { certificate: join(folder, 'development.crt'), key: join(folder, 'development.key') };
  if (isUsable(files, now)) return files;
  checkDisk(folder, disk);
  const { certificate, key } = makeCertificate(now);
  try {
    makeFolder(folder);
    replace(files.key, key);
    replace(files.certificate, certificate);
  } catch (cause) {
    throw new HoldfastError(
      'ERR_CONFIG_INVALID',
      `tls: the self-signed certificate cannot be written to ${folder}: ${(cause as Error).message}`,
      { cause },
    );
  }
  logger.info({ certificate: files.certificate }, 'made a self-signed certificate for localhost');
  return files;
}

function isUsable(files: CertificateConfig, now: number): boolean {
  try {
    const { validToDate } = new X509Certificate(readFileSync(files.certificate));
    readFileSync(files.key);
    return validToDate.getTime() - now > RENEWED_BEFORE_DAYS * DAY_MS;
  } catch {
    return false;
  }
}

/** Another process may read it at this moment. */
function replace(file: string, text: string): void {
  const made = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    writeFileSync(made, text, { mode: 0o600 });
    renameSync(made, file);
  } catch (error) {
    rmSync(made, { force: true });
    throw error;
  }
}

/** RFC 5280 §4.1. */
function makeCertificate(now: number): { certificate: string; key: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const name = sequence(der(0x31, sequence(COMMON_NAME, der(0x0c, Buffer.from('localhost (development)')))));
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), // version 3
    der(0x02, Buffer.from([0x01]), randomBytes(8)), // the serial number, positive
    ECDSA_WITH_SHA256,
    name,
    sequence(utcTime(now - DAY_MS), utcTime(now + VALID_DAYS * DAY_MS)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(
      0xa3,
      sequence(
        extension(
          SUBJECT_ALT_NAME,
          der(0x82, Buffer.from('localhost')),
          der(0x82, Buffer.from('*.localhost')),
          der(0x87, LOOPBACK_V4),
          der(0x87, LOOPBACK_V6),
        ),
        extension(EXTENDED_KEY_USAGE, SERVER_AUTHENTICATION),
      ),
    ),
  );
  const signature = der(0x03, Buffer.from([0]), sign('sha256', body, privateKey));
  const base64 = sequence(body, ECDSA_WITH_SHA256, signature)
    .toString('base64')
    .replace(/.{1,64}/g, '$&\n');
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${base64}-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  };
}
