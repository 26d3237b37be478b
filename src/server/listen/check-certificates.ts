import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { CertificateConfig, Config } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';
import type { Doubt } from '../../config/warning-codes.ts';
import { certificateDoubt } from '../../http/certificate-dates.ts';
import { pairProblem, pemProblem } from './certificate-files.ts';

/**
 * What makes a start fail because of what is in the files of TLS: a key that belongs to another certificate, authorities
 * that are none. And what clients refuse: certificates that are over, or will be within two weeks, or have not begun.
 * That a file cannot be read is for others to say.
 *
 * @param now In ms since the epoch.
 */
export async function checkCertificates(
  { listen = [], internal, admin, upstreams = {} }: Config,
  now: number,
): Promise<{ readonly faults: readonly BrokenRule[]; readonly warnings: readonly Doubt[] }> {
  const faults: BrokenRule[] = [];
  const warnings: Doubt[] = [];
  const judgePair = async (pair: CertificateConfig, at: readonly PropertyKey[]) => {
    const [cert, key] = await Promise.all([pair.certificate, pair.key].map(textOf));
    if (cert === undefined || key === undefined) return;
    try {
      createSecureContext({ cert, key });
      const doubt = certificateDoubt(new X509Certificate(cert), now);
      if (doubt)
        warnings.push({
          code: doubt.kind,
          path: [...at, 'certificate'],
          message: `the certificate ${pair.certificate} ${doubt.message}`,
        });
    } catch (error) {
      const path = [...at, pemProblem(cert, 'certificate', pair.certificate) ? 'certificate' : 'key'];
      faults.push({ path, message: pairProblem(pair, error, { cert, key }) });
    }
  };
  const judgeAuthorities = async (file: string, path: readonly PropertyKey[]) => {
    const problem = pemProblem(await textOf(file), 'certificate', file);
    if (problem) faults.push({ path, message: `${file} cannot be used: ${problem}` });
  };
  const listeners = [
    ...listen.map(({ tls }, index) => ({ tls, at: ['listen', index, 'tls'] as PropertyKey[] })),
    { tls: internal?.tls, at: ['internal', 'tls'] as PropertyKey[] },
    { tls: admin ? admin.tls : undefined, at: ['admin', 'tls'] as PropertyKey[] },
  ];
  for (const { tls, at } of listeners) {
    if (typeof tls !== 'object') continue;
    await judgePair(tls, at);
    for (const [index, pair] of (tls.certificates ?? []).entries())
      await judgePair(pair, [...at, 'certificates', index]);
    if (tls.clientCertificates) await judgeAuthorities(tls.clientCertificates.ca, [...at, 'clientCertificates', 'ca']);
  }
  for (const [name, { tls }] of Object.entries(upstreams)) {
    const { ca, certificate, key } = tls ?? {};
    if (ca !== undefined) await judgeAuthorities(ca, ['upstreams', name, 'tls', 'ca']);
    if (certificate !== undefined && key !== undefined)
      await judgePair({ certificate, key }, ['upstreams', name, 'tls']);
  }
  return { faults, warnings };
}

function textOf(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch(() => undefined);
}
