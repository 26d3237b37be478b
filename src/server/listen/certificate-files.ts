import { X509Certificate } from 'node:crypto';
import { type FSWatcher, readFileSync, realpathSync, watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';
import type { Clock, Timer } from '../../base/clock.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { CertificateConfig } from '../../config/config.ts';
import { descriptors, isShortage } from './descriptors.ts';

export interface CertificateFilesOptions {
  /** The first is for clients that ask for no name, or for one that is in none. */
  readonly pairs: readonly CertificateConfig[];
  /** Certificates of the authorities for client certificates. */
  readonly ca: string | undefined;
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
  readonly clock: Clock;
  readonly logger: Logger;
  /** Something changed. */
  onChange(): void;
}

/** A pair of files as it is used. */
interface Identity {
  readonly options: SecureContextOptions;
  readonly context: SecureContext;
  readonly certificate: X509Certificate;
}

/** Certificate and key are written one after the other. */
const SETTLE_MS = 200;
/** Until what did not fit together is looked at again. */
const RETRY_MS = 1_000;
/** Watching misses some changes: a folder above that was replaced by another, a file on another machine. */
const POLL_MS = 30_000;

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
  /** What each pair was made from, authorities included. */
  readonly #texts: string[] = [];
  readonly #identities: Identity[] = [];
  /** What each pair could not be made from, and whether that has been logged. */
  readonly #refused = new Map<number, { text: string; isLogged: boolean }>();
  #watchers: FSWatcher[] = [];
  #timer: Timer | undefined;
  #lookAtMs = 0;
  #isClosed = false;

  /**
   * @throws {HoldfastError} ERR_CONFIG_INVALID when a file cannot be read, or certificate and key do not fit together.
   */
  constructor(options: CertificateFilesOptions) {
    this.#options = options;
    for (const pair of options.pairs) {
      try {
        const texts = this.#filesOf(pair).map(file => readFileSync(file, 'utf8'));
        this.#identities.push(this.#identityFrom(texts));
        this.#texts.push(texts.join('\0'));
      } catch (cause) {
        throw new HoldfastError('ERR_CONFIG_INVALID', `tls: ${problem(pair, cause)}`, { cause });
      }
    }
    this.#watch();
    this.#schedule(POLL_MS);
  }

  /** What `tls.createServer` and `setSecureContext` take. */
  get defaultOptions(): SecureContextOptions {
    return this.#identities[0]!.options;
  }

  /** The context with a certificate for this name; the first when there is none. */
  contextFor(name: string): SecureContext {
    const found = this.#identities.find(({ certificate }) => certificate.checkHost(name) !== undefined);
    return (found ?? this.#identities[0]!).context;
  }

  /** Reads the files and takes what is new and good. Never rejects. */
  async look(): Promise<void> {
    let hasChanged = false;
    let isInDoubt = false;
    for (const [index, pair] of this.#options.pairs.entries()) {
      const result = await this.#lookAt(index, pair);
      hasChanged ||= result === 'changed';
      isInDoubt ||= result === 'refused';
    }
    if (this.#isClosed) return;
    if (hasChanged) {
      this.#options.onChange();
      // The links may lead to other folders now.
      this.#watch();
    }
    this.#schedule(isInDoubt ? RETRY_MS : POLL_MS);
  }

  close(): void {
    this.#isClosed = true;
    this.#options.clock.clearTimeout(this.#timer);
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
  }

  async #lookAt(index: number, pair: CertificateConfig): Promise<'same' | 'changed' | 'refused' | 'known'> {
    const { logger } = this.#options;
    let text = '';
    try {
      const texts = await readAll(this.#filesOf(pair));
      text = texts.join('\0');
      if (text === this.#texts[index]) {
        this.#refused.delete(index);
        return 'same';
      }
      if (this.#refused.get(index)?.text === text && this.#refused.get(index)?.isLogged) return 'known';
      this.#identities[index] = this.#identityFrom(texts);
      this.#texts[index] = text;
      this.#refused.delete(index);
      logger.info(
        { event: 'certificate-changed', validTo: this.#identities[index].certificate.validTo },
        `the certificate in ${pair.certificate} has changed and is used for new connections`,
      );
      return 'changed';
    } catch (error) {
      const earlier = this.#refused.get(index);
      // Twice the same, or it may have been read while it was being written.
      const isSure = earlier !== undefined && earlier.text === text;
      if (isSure && !earlier.isLogged)
        logger.error({ event: 'certificate-refused' }, `${problem(pair, error)}; the one before stays in use`);
      this.#refused.set(index, { text, isLogged: isSure });
      return isSure ? 'known' : 'refused';
    }
  }

  #filesOf({ certificate, key }: CertificateConfig): string[] {
    const { ca } = this.#options;
    return ca === undefined ? [certificate, key] : [certificate, key, ca];
  }

  #identityFrom([cert, key, ca]: readonly (string | undefined)[]): Identity {
    const options: SecureContextOptions = {
      cert: cert!,
      key: key!,
      minVersion: this.#options.minVersion,
      ...(ca !== undefined && { ca }),
    };
    if (ca !== undefined && !/-----BEGIN CERTIFICATE-----/.test(ca))
      throw new TypeError('the file of the authorities holds no certificate');
    // Throws when key and certificate are not of one pair.
    return { options, context: createSecureContext(options), certificate: new X509Certificate(cert!) };
  }

  #watch(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
    const folders = new Set<string>();
    for (const file of this.#options.pairs.flatMap(pair => this.#filesOf(pair))) {
      folders.add(dirname(file));
      try {
        folders.add(dirname(realpathSync(file)));
      } catch {
        // It is not there for the moment.
      }
    }
    for (const folder of folders) {
      try {
        const watcher = watch(folder, { persistent: false }, () => this.#schedule(SETTLE_MS));
        watcher.on('error', () => watcher.close());
        this.#watchers.push(watcher);
      } catch {
        // Too many watchers on this machine, or the folder is gone: the poll sees it, later.
      }
    }
  }

  /** Sooner than what is planned, or not at all: a folder in which something changes all the time puts nothing off. */
  #schedule(ms: number): void {
    const { clock } = this.#options;
    const atMs = clock.monotonic() + ms;
    if (this.#isClosed || (this.#timer !== undefined && this.#lookAtMs <= atMs)) return;
    clock.clearTimeout(this.#timer);
    this.#lookAtMs = atMs;
    this.#timer = clock.setTimeout(() => {
      this.#timer = undefined;
      void this.look();
    }, ms);
  }
}

async function readAll(files: readonly string[]): Promise<string[]> {
  try {
    return await Promise.all(files.map(file => readFile(file, 'utf8')));
  } catch (error) {
    if (!isShortage(error)) throw error;
    return descriptors.lend(() => files.map(file => readFileSync(file, 'utf8')));
  }
}

function problem({ certificate, key }: CertificateConfig, cause: unknown): string {
  return `the certificate ${certificate} with the key ${key} cannot be used: ${(cause as Error).message}`;
}
