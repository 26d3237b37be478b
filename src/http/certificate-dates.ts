import type { X509Certificate } from 'node:crypto';

/** Automatic renewal has failed for a while by then: it begins a month before. */
const SOON_MS = 14 * 86_400_000;

/** The last third of the life of a certificate, in ms: it is not renewed before. */
export function lastThirdMs({
  validFromDate,
  validToDate,
}: Pick<X509Certificate, 'validFromDate' | 'validToDate'>): number {
  return (validToDate.getTime() - validFromDate.getTime()) / 3;
}

/** What clients refuse in the dates of a certificate, or soon will. The message is what follows its name. */
export interface CertificateDoubt {
  readonly kind: 'certificate-over' | 'certificate-ends-soon' | 'certificate-not-begun';
  readonly message: string;
}

/**
 * What is to be said of the dates of a certificate: that it is over, will be within two weeks, or has not begun. Of one that
 * is made for a short life, two weeks count only in its last third.
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
  const leftMs = validToDate.getTime() - now;
  if (leftMs >= SOON_MS || leftMs >= lastThirdMs({ validFromDate, validToDate })) return undefined;
  return { kind: 'certificate-ends-soon', message: `ends on ${ends} UTC, within two weeks; renew it` };
}
