import { readFile } from 'node:fs/promises';
import { messageOf } from '../base/message-of.ts';
import { doubtfulLists, forgeryIn, parseRevocationLists, type RevocationList } from '../http/revocation-list.ts';
import type { ClientCertificateConfig, Config } from './config.ts';
import type { BrokenRule } from './fields.ts';
import type { Doubt } from './warning-codes.ts';

interface Found {
  readonly errors: readonly BrokenRule[];
  readonly warnings: readonly Doubt[];
}

/**
 * What is wrong with lists of revoked client certificates: a start refuses those that cannot be read, and clients are
 * refused by those that are over or missing. Files that are not there are for `checkFiles` to say.
 *
 * @param now In ms since the epoch.
 */
export async function checkRevocationLists({ listen = [], internal, admin }: Config, now: number): Promise<Found> {
  const errors: BrokenRule[] = [];
  const warnings: Doubt[] = [];
  const places = [
    ...listen.map(({ tls }, index) => ({ tls, at: ['listen', index] as PropertyKey[] })),
    { tls: internal?.tls, at: ['internal'] as PropertyKey[] },
    { tls: admin ? admin.tls : undefined, at: ['admin'] as PropertyKey[] },
  ];
  for (const { tls, at } of places) {
    if (typeof tls !== 'object' || tls.clientCertificates?.crl === undefined) continue;
    const found = await checkOne(tls.clientCertificates, [...at, 'tls', 'clientCertificates', 'crl'], now);
    errors.push(...found.errors);
    warnings.push(...found.warnings);
  }
  return { errors, warnings };
}

async function checkOne({ ca, crl }: ClientCertificateConfig, at: PropertyKey[], now: number): Promise<Found> {
  const lists: RevocationList[] = [];
  const errors: BrokenRule[] = [];
  let isWhole = true;
  for (const [index, file] of [crl!].flat().entries()) {
    const text = await readFile(file, 'utf8').catch(() => undefined);
    isWhole &&= text !== undefined;
    if (text === undefined) continue;
    try {
      lists.push(...parseRevocationLists(text).map(({ list }) => list));
    } catch (error) {
      isWhole = false;
      errors.push({ path: Array.isArray(crl) ? [...at, index] : at, message: `the list ${file}: ${messageOf(error)}` });
    }
  }
  const authorities = await readFile(ca, 'utf8').catch(() => undefined);
  if (!isWhole || authorities === undefined) return { errors, warnings: [] };
  try {
    const forged = lists.flatMap(list => forgeryIn(list, authorities) ?? []).map(message => ({ path: at, message }));
    if (forged.length > 0) return { errors: forged, warnings: [] };
    const doubts = doubtfulLists(lists, authorities, now);
    const warnings = doubts.map(({ kind, message }) => ({
      code: `revocation-list-${kind}` as const,
      path: at,
      message,
    }));
    return { errors, warnings };
  } catch (error) {
    return { errors: [{ path: [...at.slice(0, -1), 'ca'], message: `${ca}: ${messageOf(error)}` }], warnings: [] };
  }
}
