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
}

const known = new WeakMap<Socket, ClientCertificate>();

/**
 * The client's certificate of a connection; undefined without one, and for one that no authority in `ca` has signed.
 */
export function clientCertificateOf(socket: Socket): ClientCertificate | undefined {
  // False also where the listener requests none.
  if ((socket as Partial<TLSSocket>).authorized !== true) return undefined;
  let certificate = known.get(socket);
  if (certificate === undefined) {
    const x509: X509Certificate | undefined = (socket as Partial<TLSSocket>).getPeerX509Certificate?.();
    if (x509 === undefined) return undefined;
    const { subject, issuer, subjectAltName = '', serialNumber, fingerprint256 } = x509;
    certificate = { subject, issuer, subjectAltName, serialNumber, fingerprint256 };
    known.set(socket, certificate);
  }
  return certificate;
}
