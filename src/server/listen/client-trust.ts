import { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { clientCertificateOf, distrustCertificateOf } from '../../http/client-certificate.ts';
import { peerAddressOf } from '../../http/peer.ts';
import {
  type CertificateId,
  certificateId,
  doubtfulLists,
  isOver,
  listOf,
  pemBlocks,
  type RevocationList,
  subjectKey,
} from '../../http/revocation-list.ts';
import type { SecurityEvents } from '../../policy/security-events.ts';

export interface ClientTrustOptions {
  /** A client without a good certificate is cut; otherwise its certificate counts as none. */
  readonly isRequired: boolean;
  /** Are there lists at all? */
  readonly hasLists: boolean;
  /** As they are in force. */
  readonly files: { readonly lists: readonly RevocationList[]; readonly authorities: string };
  readonly clock: Clock;
  readonly logger: Logger;
  readonly security: SecurityEvents;
  withdraw(fingerprints: ReadonlySet<string>, reason: string): void;
}

/** A connection whose client has shown a good certificate. */
interface Certified {
  /** The client's own, and those of the authorities between it and the one that signs itself. */
  readonly chain: readonly CertificateId[];
  readonly fingerprint: string;
  readonly subject: string;
  readonly serialNumber: string;
  /** In ms since the epoch. */
  readonly validTo: number;
}

/** OpenSSL's words, so that a log has one for each reason, whoever found it. */
type Fault = 'CERT_REVOKED' | 'CERT_HAS_EXPIRED' | 'CRL_HAS_EXPIRED';

/** How often it is looked whose certificate is over. */
const LOOK_MS = 1_000;
/** What WebSockets have for their closing handshake before the connection ends. */
const GOODBYE_MS = 300;
const DAY_MS = 86_400_000;
/** Authorities between a client and the one that signs itself: more are a mistake, or a circle. */
const MAX_CHAIN = 10;

/**
 * The client certificates of one listener: who is let in by one, why somebody is not, and that connections end when
 * their certificate is revoked or over.
 *
 * TLS judges signatures, dates and lists at each full handshake. A resumed connection is judged by nobody but us.
 */
export class ClientTrust {
  readonly #options: ClientTrustOptions;
  readonly #certified = new Map<TLSSocket, Certified>();
  #authorities: { readonly text: string; readonly bySubject: ReadonlyMap<string, X509Certificate> } | undefined;
  #lookTimer: Timer | undefined;
  #listTimer: Timer | undefined;

  constructor(options: ClientTrustOptions) {
    this.#options = options;
    this.#watchLists();
  }

  /** TLS is there. @returns false when the connection must not be. */
  admit(socket: TLSSocket): boolean {
    const x509 = socket.getPeerX509Certificate();
    if (!x509) {
      const { isRequired } = this.#options;
      if (isRequired) this.#refuse(socket, 'NO_CERTIFICATE', 'a client has shown no certificate');
      return !isRequired;
    }
    const certified: Certified = {
      chain: this.#chainOf(x509),
      fingerprint: x509.fingerprint256,
      subject: x509.subject.replaceAll('\n', ', '),
      serialNumber: x509.serialNumber,
      validTo: x509.validToDate.getTime(),
    };
    // A text, whatever the types say.
    const failure = socket.authorized ? this.#faultOf(certified) : String(socket.authorizationError);
    if (failure !== undefined) {
      distrustCertificateOf(socket);
      this.#refuse(socket, failure, `the certificate of a client is not good: ${failure}`, certified);
      return !this.#options.isRequired;
    }
    // Read while it can be: the requests of the connection ask for it.
    clientCertificateOf(socket);
    this.#certified.set(socket, certified);
    socket.once('close', () => this.#certified.delete(socket));
    this.#plan();
    return true;
  }

  /** The lists have changed. */
  review(): void {
    this.#watchLists();
    this.#endThose(
      'CERT_REVOKED',
      certified => this.#faultOf(certified) === 'CERT_REVOKED',
      'client certificate was revoked',
    );
  }

  close(): void {
    const { clock } = this.#options;
    clock.clearTimeout(this.#lookTimer);
    clock.clearTimeout(this.#listTimer);
    this.#lookTimer = undefined;
    this.#listTimer = undefined;
  }

  #refuse(socket: TLSSocket, failure: string, reason: string, certified?: Certified): void {
    this.#options.security.report({
      event: 'client-certificate-refused',
      address: peerAddressOf(socket),
      failure,
      subject: certified?.subject,
      serialNumber: certified?.serialNumber,
      reason,
    });
  }

  #faultOf({ chain, validTo }: Certified): Fault | undefined {
    const now = this.#options.clock.now();
    if (validTo <= now) return 'CERT_HAS_EXPIRED';
    const { lists } = this.#options.files;
    for (const { issuer, serial } of chain) {
      const list = listOf(lists, issuer, now);
      if (list?.serials.has(serial)) return 'CERT_REVOKED';
      if (list && isOver(list, now)) return 'CRL_HAS_EXPIRED';
    }
    return undefined;
  }

  #chainOf(x509: X509Certificate): CertificateId[] {
    if (this.#options.files.lists.length === 0) return [];
    const authorities = this.#knownAuthorities();
    const chain: CertificateId[] = [];
    let next: X509Certificate | undefined = x509;
    while (next && chain.length < MAX_CHAIN) {
      const id = certificateId(next);
      if (subjectKey(next) === id.issuer && chain.length > 0) break;
      chain.push(id);
      next = next.issuerCertificate ?? authorities.get(id.issuer);
    }
    return chain;
  }

  #knownAuthorities(): ReadonlyMap<string, X509Certificate> {
    const { authorities } = this.#options.files;
    if (this.#authorities?.text !== authorities) {
      const certificates = pemBlocks(authorities, 'CERTIFICATE').map(pem => new X509Certificate(pem));
      const bySubject = new Map(certificates.map(certificate => [subjectKey(certificate), certificate]));
      this.#authorities = { text: authorities, bySubject };
    }
    return this.#authorities.bySubject;
  }

  #plan(): void {
    if (this.#lookTimer !== undefined || this.#certified.size === 0) return;
    this.#lookTimer = this.#options.clock.setTimeout(() => {
      this.#lookTimer = undefined;
      const now = this.#options.clock.now();
      this.#endThose('CERT_HAS_EXPIRED', ({ validTo }) => validTo <= now, 'client certificate has expired');
      this.#plan();
    }, LOOK_MS);
  }

  /** A list that is over refuses who comes; who is here was found good by it. */
  #endThose(failure: Fault, isGone: (certified: Certified) => boolean, reason: string): void {
    const gone = [...this.#certified].filter(([, certified]) => isGone(certified));
    if (gone.length === 0) return;
    const { clock, security, withdraw } = this.#options;
    for (const [socket, { subject, serialNumber }] of gone) {
      this.#certified.delete(socket);
      distrustCertificateOf(socket);
      security.report({
        event: 'client-certificate-ended',
        address: peerAddressOf(socket),
        ...{ failure, subject, serialNumber },
        reason: `a connection ends: its ${reason}`,
      });
    }
    withdraw(new Set(gone.map(([, { fingerprint }]) => fingerprint)), reason);
    clock.setTimeout(() => {
      for (const [socket] of gone) socket.destroy();
    }, GOODBYE_MS);
  }

  /** Now and every day: what will refuse clients is said a week before. */
  #watchLists(): void {
    const { files, clock, logger, hasLists } = this.#options;
    if (!hasLists) return;
    clock.clearTimeout(this.#listTimer);
    for (const { kind, message } of doubtfulLists(files.lists, files.authorities, clock.now()))
      logger[kind === 'over' ? 'error' : 'warn'](
        { event: `revocation-list-${kind}` },
        `clientCertificates: ${message}`,
      );
    this.#listTimer = clock.setTimeout(() => this.#watchLists(), DAY_MS);
  }
}
