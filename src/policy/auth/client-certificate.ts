import type { Clock } from '../../base/clock.ts';
import {
  formatName,
  type NameAttribute,
  parseName,
  readAltNames,
  readName,
  valuesOf,
} from '../../http/certificate-names.ts';
import type { ClientCertificate } from '../../http/client-certificate.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { CredentialPlace } from '../../http/without-credentials.ts';
import { isTooLongUserName } from '../../session/identity/owner.ts';
import { challengeOf } from './challenge.ts';
import type { RoleSource } from './roles.ts';
import type { Challenge, Principal, RequestScheme, Verdict } from './scheme.ts';

/** What of a certificate names its user. */
export type CertificateUser = 'subject' | `subject.${string}` | 'san.email' | 'san.dns' | 'san.uri' | 'fingerprint';

/** Users who show a certificate to our TLS (`listen.tls.clientCertificates`). */
export interface ClientCertificateOptions {
  /**
   * What names the user: `subject.CN` or another attribute of the subject (`subject.emailAddress`), the whole `subject` as
   * in RFC 4514 (`CN=alice,OU=Staff,O=Example`), an alternative name (`san.email`, `san.dns`, `san.uri`), or `fingerprint`
   * (SHA-256 in hex with colons). A certificate that has it twice, or not at all, names nobody. Default `subject.CN`.
   */
  user?: CertificateUser;
  /**
   * Only certificates that one of these has signed directly, by name as in RFC 4514 (`openssl x509 -noout -subject -nameopt
   * RFC2253`). Default: all that `ca` of the listener lets in.
   */
  issuers?: readonly string[];
}

interface Services {
  readonly name: string;
  readonly roleSource: RoleSource;
  readonly clock: Clock;
}

const ALT_NAMES: Readonly<Record<string, string>> = { 'san.email': 'email', 'san.dns': 'DNS', 'san.uri': 'URI' };

/** Whose certificate it is, or why that is not certain. */
type Named =
  | { readonly user: string; readonly claims: Readonly<Record<string, unknown>> }
  | { readonly problem: string };

/** The scheme `client-certificate`: TLS has found the certificate good, and here is whose it is. */
export class ClientCertificateScheme implements RequestScheme {
  readonly isShownByRequest = true;
  /** It is nowhere in a request. */
  readonly places: readonly CredentialPlace[] = [];
  readonly name: string;
  readonly #user: CertificateUser;
  readonly #issuers: ReadonlySet<string> | undefined;
  readonly #services: Services;
  /** A connection has many requests. */
  readonly #named = new WeakMap<ClientCertificate, Named>();

  constructor({ user = 'subject.CN', issuers }: ClientCertificateOptions, services: Services) {
    this.name = services.name;
    this.#user = user;
    this.#issuers = issuers && new Set(issuers.map(issuer => formatName(parseName(issuer) ?? [])));
    this.#services = services;
  }

  authenticate({ clientCertificate }: Pick<RequestHead, 'clientCertificate'>): Verdict {
    if (!clientCertificate) return { kind: 'absent' };
    if (clientCertificate.validTo <= this.#services.clock.now())
      return { kind: 'rejected', reason: 'the client certificate is over', isOver: true };
    let named = this.#named.get(clientCertificate);
    if (!named) {
      named = this.#nameOf(clientCertificate);
      this.#named.set(clientCertificate, named);
    }
    if ('problem' in named) return { kind: 'rejected', reason: `the client certificate ${named.problem}` };
    const { user, claims } = named;
    const principal: Principal = {
      ...{ name: user, claims, scheme: this.name },
      roles: this.#services.roleSource.rolesOf({ name: user, claims }),
      expiresAt: clientCertificate.validTo,
      credential: clientCertificate.fingerprint256,
    };
    return { kind: 'authenticated', principal };
  }

  /** No scheme of HTTP is registered for it, and a 401 must have one. */
  challenge(): Challenge {
    return { header: challengeOf('Client-Certificate', this.name) };
  }

  /** Certificates that are revoked have their sockets closed by what watches the lists: here it is about roles. */
  review(principal: Principal): Principal {
    const { name, claims } = principal;
    return { ...principal, roles: this.#services.roleSource.rolesOf({ name, claims }) };
  }

  /** A ticket is no way round a list of revoked certificates: its handshake comes with the same one. */
  recall(principal: Principal, _kept: unknown, { clientCertificate }: RequestHead): Principal | undefined {
    return clientCertificate?.fingerprint256 === principal.credential ? principal : undefined;
  }

  onChange(listener: () => void): () => void {
    return this.#services.roleSource.onChange(listener);
  }

  #nameOf(certificate: ClientCertificate): Named {
    const [subject, issuer] = [readName(certificate.subject), readName(certificate.issuer)];
    const altNames = readAltNames(certificate.subjectAltName);
    if (!subject || !issuer || !altNames) return { problem: 'has names that cannot be read' };
    const issuerName = formatName(issuer);
    if (this.#issuers && !this.#issuers.has(issuerName))
      return { problem: `is of ${issuerName}, which is not in "issuers"` };
    const values = this.#valuesIn(certificate, subject, altNames);
    const [user] = values;
    if (user === undefined) return { problem: `has no ${this.#user}` };
    if (values.length > 1) return { problem: `has ${values.length} of ${this.#user}, and names nobody for certain` };
    if (user === '' || isTooLongUserName(user) || /\p{Cc}/u.test(user))
      return { problem: `has a ${this.#user} that is empty, longer than 256 characters, or has control characters` };
    const { serialNumber, fingerprint256 } = certificate;
    const claims = { subject: attributes(subject.flat()), issuer: issuerName, altNames: attributes(altNames) };
    return { user, claims: { ...claims, serialNumber, fingerprint256 } };
  }

  #valuesIn(
    { fingerprint256 }: ClientCertificate,
    subject: readonly (readonly NameAttribute[])[],
    altNames: readonly NameAttribute[],
  ): readonly string[] {
    if (this.#user === 'fingerprint') return [fingerprint256];
    if (this.#user === 'subject') return subject.length === 0 ? [] : [formatName(subject)];
    const type = ALT_NAMES[this.#user];
    if (type !== undefined) return valuesOf([altNames], type);
    return valuesOf(subject, this.#user.slice('subject.'.length));
  }
}

/** Lists, so that a value is never taken apart: `rolesClaim: subject.OU` makes groups of organizational units. */
function attributes(all: readonly NameAttribute[]): Readonly<Record<string, readonly string[]>> {
  const lists: Record<string, string[]> = Object.create(null);
  for (const { type, value } of all) {
    lists[type] ??= [];
    lists[type].push(value);
  }
  return { ...lists };
}
