import type { X509Certificate } from 'node:crypto';

/** Automatic renewal has failed for a while by then: it begins a month before, or when a third of the time is left. */
const SOON_MS = 14 * 86_400_000;

/**
 * What is to be said of the dates of a certificate: that it is over, will be within two weeks, or has not begun.
 *
 * @param now In ms since the epoch.
 * @returns undefined when all is well.
 */
export function certificateDoubt({ validFromDate, validToDate }: X509Certificate, now: number): string | undefined {
  const [begins, ends] = [validFromDate, validToDate].map(date => date.toISOString().slice(0, 16).replace('T', ' '));
  if (validToDate.getTime() <= now) return `ended on ${ends} UTC, and clients refuse it; renew it`;
  if (validFromDate.getTime() > now) return `begins on ${begins} UTC, and clients refuse it before that`;
  return validToDate.getTime() - now < SOON_MS ? `ends on ${ends} UTC, within two weeks; renew it` : undefined;
}
