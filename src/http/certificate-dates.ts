import type { X509Certificate } from 'node:crypto';

/** Automatic renewal has failed for a while by then: it begins a month before, or when a third of the time is left. */
const SOON_MS = 14 * 86_400_000;

/** What clients refuse in the dates of a certificate, or soon will. The message is what follows its name. */
export interface CertificateDoubt {
  readonly kind: 'certificate-over' | 'certificate-ends-soon' | 'certificate-not-begun';
  readonly message: string;
}

/**
 * What is to be said of the dates of a certificate: that it is over, will be within two weeks, or has not begun.
 *
 * @param now In ms since the epoch.
 * @returns undefined when all is well.
 */
export function certificateDoubt(
  { validFromDate, validToDate }: Pick<X509Certificate, 'validFromDate' | 'validToDate'>,
  now: number,
): CertificateDoubt | undefined {
  const [begins, ends] = [validFromDate, validToDate].map(date => date.toISOString().slice(0, 16).replace('T', ' '));
  if (validToDate.getTime() <= now)
    return { kind: 'certificate-over', message: `ended on ${ends} UTC, and clients refuse it; renew it` };
  if (validFromDate.getTime() > now)
    return { kind: 'certificate-not-begun', message: `begins on ${begins} UTC, and clients refuse it before that` };
  if (validToDate.getTime() - now >= SOON_MS) return undefined;
  return { kind: 'certificate-ends-soon', message: `ends on ${ends} UTC, within two weeks; renew it` };
}
