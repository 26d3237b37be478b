import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';
import type { Clock } from '../../base/clock.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/message-of.ts';
import { shellWord } from '../../base/shell-word.ts';
import type { CertificateConfig, ClientCertificateConfig } from '../../config/config.ts';
import { FileWatch } from '../../drivers/file-watch.ts';
import { forgeryIn, parseRevocationLists, type RevocationList } from '../../http/revocation-list.ts';
import { descriptors, isShortage } from './descriptors.ts';

export interface CertificateFilesOptions {
  /** The first is for clients that ask for no name, or for one that is in none. */
  readonly pairs: readonly CertificateConfig[];
  /** The authorities for client certificates, and their lists. */
  readonly clients: ClientCertificateConfig | undefined;
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
  readonly clock: Clock;
  readonly logger: Logger;
  /** Something changed. */
  onChange(): void;
}

/** Until when a certificate is good. */
export interface CertificateTerm {
  /** The first name that it is for. */
  readonly name: string;
  /** In ms since the epoch. */
  readonly validTo: number;
}

/** A pair of files as it is used. */
interface Identity {
  readonly options: SecureContextOptions;
  readonly context: SecureContext;
  readonly certificate: X509Certificate;
  /** Of client certificates. */
  readonly lists: readonly RevocationList[];
}

/**
 * Certificates in files, as TLS contexts, read again when they change: written in place, replaced, or reached through
 * symbolic links that lead elsewhere now, as certbot and Kubernetes do it. Connections that are open keep what they
 * have.
 *
 * Certificate and key that do not fit together, or cannot be read, change nothing and are logged once; the files are
 * looked at again.
 */
export class CertificateFiles {
  readonly #options: CertificateFilesOptions;
  /** What each pair was made from: certificate, key, authorities, lists of what these have revoked. */
  readonly #texts: (readonly string[])[] = [];
  readonly #identities: Identity[] = [];
  /** What each pair could not be made from, and whether that has been logged. */
  readonly #refused = new Map<number, { text: string; isLogged: boolean }>();
  readonly #watch: FileWatch;

  /**
   * @throws {HoldfastError} ERR_CONFIG_INVALID when a file cannot be read, or certificate and key do not fit together.
   */
  constructor(options: CertificateFilesOptions) {
    this.#options = options;
    for (const pair of options.pairs) {
      let texts: readonly string[] = [];
      try {
        texts = this.#filesOf(pair).map(file => readFileSync(file, 'utf8'));
        this.#identities.push(this.#identityFrom(texts));
        this.#texts.push(texts);
      } catch (cause) {
        throw new HoldfastError('ERR_CONFIG_INVALID', `tls: ${pairProblem(pair, cause, pemTexts(texts))}`, { cause });
      }
    }
    const files = options.pairs.flatMap(pair => this.#filesOf(pair));
    this.#watch = new FileWatch({ files, clock: options.clock, look: () => this.#look() });
  }

  /** What `tls.createServer` and `setSecureContext` take. */
  get defaultOptions(): SecureContextOptions {
    return this.#identities[0]!.options;
  }

  get terms(): CertificateTerm[] {
    return this.#identities.map(({ certificate }) => ({
      name: firstNameOf(certificate),
      validTo: certificate.validToDate.getTime(),
    }));
  }

  /** The authorities for client certificates, in PEM; `''` for none. */
  get authorities(): string {
    return String(this.defaultOptions.ca ?? '');
  }

  /** The certificates that are shown to clients, with their files. */
  get certificates(): { readonly file: string; readonly certificate: X509Certificate }[] {
    return this.#options.pairs.map((pair, index) => ({
      file: pair.certificate,
      certificate: this.#identities[index]!.certificate,
    }));
  }

  /** What authorities have revoked, as it is in force. */
  get lists(): readonly RevocationList[] {
    return this.#identities[0]!.lists;
  }

  /** The context with a certificate for this name; the first when there is none. */
  contextFor(name: string): SecureContext {
    const found = this.#identities.find(({ certificate }) => certificate.checkHost(name) !== undefined);
    return (found ?? this.#identities[0]!).context;
  }

  /** Reads the files and takes what is new and good. Never rejects. */
  look(): Promise<void> {
    return this.#watch.look();
  }

  close(): void {
    this.#watch.close();
  }

  async #look(): Promise<'same' | 'changed' | 'doubtful'> {
    let hasChanged = false;
    let isInDoubt = false;
    for (const [index, pair] of this.#options.pairs.entries()) {
      const result = await this.#lookAt(index, pair);
      hasChanged ||= result === 'changed';
      isInDoubt ||= result === 'refused';
    }
    if (hasChanged && !this.#watch.isClosed) this.#options.onChange();
    return isInDoubt ? 'doubtful' : hasChanged ? 'changed' : 'same';
  }

  async #lookAt(index: number, pair: CertificateConfig): Promise<'same' | 'changed' | 'refused' | 'known'> {
    const { logger } = this.#options;
    let text = '';
    try {
      const texts = await readAll(this.#filesOf(pair));
      text = texts.join('\0');
      const before = this.#texts[index]!;
      if (text === before.join('\0')) {
        this.#refused.delete(index);
        return 'same';
      }
      if (this.#refused.get(index)?.text === text && this.#refused.get(index)?.isLogged) return 'known';
      this.#identities[index] = this.#identityFrom(texts);
      this.#texts[index] = texts;
      this.#refused.delete(index);
      if (texts[0] !== before[0] || texts[1] !== before[1])
        logger.info(
          { event: 'certificate-changed', validTo: this.#identities[index].certificate.validTo },
          `the certificate in ${pair.certificate} has changed and is used for new connections`,
        );
      // The others have the same files.
      if (index === 0) this.#logChangesOf(texts, before);
      return 'changed';
    } catch (error) {
      const earlier = this.#refused.get(index);
      // Twice the same, or it may have been read while it was being written.
      const isSure = earlier !== undefined && earlier.text === text;
      if (isSure && !earlier.isLogged)
        logger.error({ event: 'certificate-refused' }, `${pairProblem(pair, error)}; the one before stays in use`);
      this.#refused.set(index, { text, isLogged: isSure });
      return isSure ? 'known' : 'refused';
    }
  }

  #logChangesOf(texts: readonly string[], before: readonly string[]): void {
    for (const [index, file] of this.#clientFiles.entries())
      if (texts[index + 2] !== before[index + 2])
        this.#options.logger.info(
          { event: 'file-changed', file },
          `${index === 0 ? 'the authorities for' : 'the list of revoked'} client certificates in ${file} ${index === 0 ? 'have' : 'has'} changed and ${index === 0 ? 'are' : 'is'} in force`,
        );
  }

  /** The authorities, and the lists. */
  get #clientFiles(): readonly string[] {
    const { clients } = this.#options;
    return clients === undefined ? [] : [clients.ca, ...[clients.crl ?? []].flat()];
  }

  #filesOf({ certificate, key }: CertificateConfig): string[] {
    return [certificate, key, ...this.#clientFiles];
  }

  #identityFrom([cert, key, ca, ...crls]: readonly (string | undefined)[]): Identity {
    const found = crls.flatMap((text, index) => this.#listsIn(text!, this.#clientFiles[index + 1]!));
    const options: SecureContextOptions = {
      cert: cert!,
      key: key!,
      minVersion: this.#options.minVersion,
      ...(ca !== undefined && { ca }),
      // Of a text with several lists Node takes the first.
      ...(found.length > 0 && { crl: found.map(({ pem }) => pem) }),
    };
    const problem = pemProblem(ca, 'certificate', this.#clientFiles[0]!);
    if (problem) throw new TypeError(`the authorities: ${problem}`);
    for (const { list } of found) {
      const forgery = forgeryIn(list, ca!);
      if (forgery !== undefined) throw new TypeError(forgery);
    }
    // Throws when key and certificate are not of one pair.
    const context = createSecureContext(options);
    return { options, context, certificate: new X509Certificate(cert!), lists: found.map(({ list }) => list) };
  }

  #listsIn(text: string, file: string): ReturnType<typeof parseRevocationLists> {
    try {
      return parseRevocationLists(text);
    } catch (cause) {
      throw new TypeError(`the list ${file}: ${(cause as Error).message}`, { cause });
    }
  }
}

function firstNameOf({ subject, subjectAltName }: X509Certificate): string {
  const [, name] = /^(?:DNS|IP Address):([^,]*)/.exec(subjectAltName ?? '') ?? /^CN=(.*)$/m.exec(subject ?? '') ?? [];
  return name ?? '';
}

async function readAll(files: readonly string[]): Promise<string[]> {
  try {
    return await Promise.all(files.map(file => readFile(file, 'utf8')));
  } catch (error) {
    if (!isShortage(error)) throw error;
    return descriptors.lend(() => files.map(file => readFileSync(file, 'utf8')));
  }
}

function pemTexts([cert, key]: readonly string[]): { cert: string | undefined; key: string | undefined } {
  return { cert, key };
}

/** Node takes a text without one for an empty list of authorities, and leaves out those that are damaged. */
function holdsCertificate(pem: string): boolean {
  return pem.includes('-----BEGIN CERTIFICATE-----');
}

/**
 * What OpenSSL has against a pair, in words that say what to look at.
 *
 * @param texts What the files hold, as far as they could be read.
 */
export function pairProblem(
  { certificate, key }: CertificateConfig,
  cause: unknown,
  texts: { readonly cert?: string | undefined; readonly key?: string | undefined } = {},
): string {
  const { code, message } = cause as NodeJS.ErrnoException;
  const why =
    code === 'ERR_OSSL_X509_KEY_VALUES_MISMATCH'
      ? 'the key belongs to another certificate'
      : (pemProblem(texts.cert, 'certificate', certificate) ?? pemProblem(texts.key, 'key', key) ?? message);
  return `the certificate ${certificate} with the key ${key} cannot be used: ${why}`;
}

function unreadable(pem: string, what: 'certificate' | 'key', file: string): string | undefined {
  const blocks = what === 'key' ? [pem] : certificatesIn(pem);
  for (const [index, block] of blocks.entries())
    try {
      if (what === 'key') createPrivateKey(block);
      else new X509Certificate(block);
    } catch (error) {
      const which = blocks.length === 1 ? `the ${what}` : `${what} ${index + 1} of ${blocks.length}`;
      return `${which} in ${file} is damaged or cut off (${messageOf(error)}); write the file again`;
    }
  return undefined;
}

/** Node reads the first of a text: here is one text for each. */
function certificatesIn(pem: string): string[] {
  return pem.split(/(?=-----BEGIN CERTIFICATE-----)/).filter(holdsCertificate);
}

/** What a file holds that is not what it is read for, with the command that mends it. */
export function pemProblem(text: string | undefined, what: 'certificate' | 'key', file: string): string | undefined {
  if (text === undefined) return undefined;
  const name = shellWord(file);
  if (what === 'key' && /-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(text))
    return `the key is encrypted, and nobody is there to type its passphrase; write it without one: openssl pkey -in ${name} -out NEW`;
  const isPem = what === 'key' ? /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text) : holdsCertificate(text);
  if (isPem) return unreadable(text, what, file);
  // X.690 §8.1.3.5: a sequence whose length takes two bytes, the second of them no UTF-8.
  if (text.startsWith('0\ufffd'))
    return `the ${what} is in DER; write it as PEM: openssl ${what === 'key' ? 'pkey' : 'x509'} -inform der -in ${name} -out NEW`;
  return `${file} holds no ${what} in PEM, which has a line "-----BEGIN ${what === 'key' ? 'PRIVATE KEY' : 'CERTIFICATE'}-----"`;
}
