import type { X509Certificate } from 'node:crypto';
import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { lastThirdMs } from '../../http/certificate-dates.ts';

const DAY_MS = 86_400_000;
/** How many days before its end a certificate is spoken of. */
const DAYS = [1, 3, 7, 14, 30];

/** A certificate in use, and the file that it is from. */
export interface UsedCertificate {
  readonly file: string;
  readonly certificate: X509Certificate;
}

export interface CertificateEndsOptions {
  /** Those in use now. */
  readonly used: () => readonly UsedCertificate[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Looks at the dates of the certificates of a listener at start, after a change, and each day, and writes a line 30, 14,
 * 7, 3 and 1 days before the end of one, and when it has ended.
 *
 * Of one that is made for a short life these count which lie in its last third: its renewal is not due before.
 */
export class CertificateEnds {
  readonly #options: CertificateEndsOptions;
  /** The last line of each, by its fingerprint: days before its end; 0 when it has ended. */
  #said = new Map<string, number>();
  #timer: Timer | undefined;

  constructor(options: CertificateEndsOptions) {
    this.#options = options;
    this.review();
  }

  /** The certificates may have changed. */
  review(): void {
    const { used, clock } = this.#options;
    clock.clearTimeout(this.#timer);
    const said = new Map<string, number>();
    for (const one of used()) {
      const { fingerprint256 } = one.certificate;
      const days = daysOf(one.certificate, clock.now());
      if (days === undefined) continue;
      if (days !== (said.get(fingerprint256) ?? this.#said.get(fingerprint256))) this.#say(one, days);
      said.set(fingerprint256, days);
    }
    this.#said = said;
    this.#timer = clock.setTimeout(() => this.review(), DAY_MS);
  }

  close(): void {
    this.#options.clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #say({ file, certificate: { validFromDate, validToDate } }: UsedCertificate, days: number): void {
    const { logger, clock } = this.#options;
    const validTo = validToDate.toISOString();
    const validFrom = validFromDate.toISOString();
    // Lines of one kind are counted: each certificate and each time is a kind of its own.
    const fields = (event: string) => ({ event, file, validFrom, validTo, reason: `${file} ${validTo} ${days}` });
    if (days === 0)
      logger.error(fields('certificate-over'), `the certificate ${file} has ended, and clients refuse it; renew it`);
    else if (days === NOT_BEGUN)
      logger.warn(fields('certificate-not-begun'), `the certificate ${file} begins at ${validFrom}; clients refuse it`);
    else {
      const left = Math.ceil((validToDate.getTime() - clock.now()) / DAY_MS);
      const text = `the certificate ${file} ends in ${left} day${left === 1 ? '' : 's'}; renew it`;
      logger.warn({ ...fields('certificate-ends-soon'), days: left }, text);
    }
  }
}

const NOT_BEGUN = -1;

/** Which line is due: so many days before the end. Undefined: none. */
function daysOf(certificate: X509Certificate, now: number): number | undefined {
  const [from, to] = [certificate.validFromDate.getTime(), certificate.validToDate.getTime()];
  if (to <= now) return 0;
  if (from > now) return NOT_BEGUN;
  const longest = lastThirdMs(certificate);
  return DAYS.find(days => to - now <= days * DAY_MS && days * DAY_MS <= longest);
}
