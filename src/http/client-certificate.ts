import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

/** A client's certificate that our TLS has found good, as text. */
export interface ClientCertificate {
  /** One attribute a line, as in `O=Example\nCN=alice`. */
  readonly subject: string;
  readonly issuer: string;
  /** As in `DNS:alice.example.com, email:alice@example.com`; `''` when there are none. */
  readonly subjectAltName: string;
  readonly serialNumber: string;
  /** SHA-256 of the whole certificate, in hex with colons. */
  readonly fingerprint256: string;
  /** When it ends, in ms since the epoch. */
  readonly validTo: number;
}

const known = new WeakMap<Socket, ClientCertificate>();
const distrusted = new WeakSet<Socket>();

/**
 * The client's certificate of a connection; undefined without one, and for one that no authority in `ca` has signed or
 * that does not count any more.
 */
export function clientCertificateOf(socket: Socket): ClientCertificate | undefined {
  // False also where the listener requests none.
  if ((socket as Partial<TLSSocket>).authorized !== true || distrusted.has(socket)) return undefined;
  let certificate = known.get(socket);
  if (certificate === undefined) {
    // A resumed connection of TLS 1.3 is authorized also where its client has shown none.
    const x509: X509Certificate | undefined = (socket as Partial<TLSSocket>).getPeerX509Certificate?.();
    if (x509 === undefined) return undefined;
    certificate = clientCertificateFrom(x509);
    known.set(socket, certificate);
  }
  return certificate;
}

export function clientCertificateFrom(x509: X509Certificate): ClientCertificate {
  const { subject, issuer, subjectAltName = '', serialNumber, fingerprint256, validToDate } = x509;
  return { subject, issuer, subjectAltName, serialNumber, fingerprint256, validTo: validToDate.getTime() };
}

/** From now on the certificate of this connection counts as none: it was revoked, or is over. */
export function distrustCertificateOf(socket: Socket): void {
  distrusted.add(socket);
}
