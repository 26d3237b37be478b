import { type BrokenRule, type Fields, fields } from './fields.ts';

/** Where no listener requests certificates, nobody can show one. A server that is only attached has listeners of others. */
export function* brokenClientCertificates({ auth, listen }: Fields): Generator<BrokenRule> {
  if (!Array.isArray(listen) || listen.some(one => fields(fields(one).tls).clientCertificates !== undefined)) return;
  for (const [name, scheme] of Object.entries(fields(auth)))
    if (fields(scheme).type === 'client-certificate')
      yield {
        path: ['auth', name],
        message: `no listener requests certificates, so nobody can show one; add "clientCertificates: { ca: FILE }" under "tls" of a listener`,
      };
}
