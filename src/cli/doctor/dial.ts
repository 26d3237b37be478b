import type { X509Certificate } from 'node:crypto';
import { lookup as dnsLookup } from 'node:dns/promises';
import { isIP, connect as netConnect, type Socket } from 'node:net';
import { checkServerIdentity, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { messageOf } from '../../base/message-of.ts';
import { certificateDoubt } from '../../http/certificate-dates.ts';
import type { FindingCode } from './findings.ts';
import { shown, shownTime } from './shown.ts';
import type { Target } from './target.ts';

/** Something that did not work, and what that means. */
export interface Fault {
  readonly finding: FindingCode;
  readonly text: string;
}

/** How connections are made. */
export interface DialOptions {
  readonly timeoutMs: number;
  /** PEM, in place of the authorities that Node trusts. */
  readonly ca?: string | undefined;
  /** The addresses of a name. Default: as this machine finds them. */
  readonly lookup?: ((hostname: string) => Promise<readonly string[]>) | undefined;
}

export interface TlsFacts {
  readonly protocol: string;
  readonly subject: string;
  readonly issuer: string;
  readonly validTo: string;
  /** What is wrong with the certificate; undefined when nothing is. A warning leaves it usable. */
  readonly fault: (Fault & { readonly isWarning: boolean }) | undefined;
}

/** A name may have any number of them. */
const MOST_ADDRESSES = 8;

/** The addresses of a name, in the order of the system. */
export async function resolveName(
  hostname: string,
  { timeoutMs, lookup = systemLookup }: DialOptions,
): Promise<readonly string[] | Fault> {
  if (isIP(hostname) !== 0) return [hostname];
  const { promise: late, resolve } = Promise.withResolvers<Fault>();
  const timer = setTimeout(resolve, timeoutMs, { finding: 'name-unanswered', text: 'no answer in time' });
  try {
    const found = lookup(hostname);
    found.catch(() => {});
    const result = await Promise.race([found, late]);
    return Array.isArray(result) ? [...new Set<string>(result)].slice(0, MOST_ADDRESSES) : (result as Fault);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    return { finding: code === 'ENOTFOUND' ? 'name-unknown' : 'name-unanswered', text: code || messageOf(error) };
  } finally {
    clearTimeout(timer);
  }
}

async function systemLookup(hostname: string): Promise<string[]> {
  const found = await dnsLookup(hostname, { all: true, order: 'verbatim' });
  return found.map(({ address }) => address);
}

/** A connection to one address. */
export async function dialTcp(address: string, port: number, timeoutMs: number): Promise<Socket | Fault> {
  const { promise, resolve } = Promise.withResolvers<Socket | Fault>();
  const socket = netConnect({ host: address, port });
  const timer = setTimeout(resolve, timeoutMs, {
    finding: 'port-silent',
    text: `no answer within ${shownTime(timeoutMs)}`,
  });
  socket.once('connect', () => resolve(socket));
  socket.on('error', (error: NodeJS.ErrnoException) => resolve(connectFault(error)));
  const result = await promise;
  clearTimeout(timer);
  if (result === socket) socket.setNoDelay(true);
  else socket.destroy();
  return result;
}

function connectFault({ code = '', message }: NodeJS.ErrnoException): Fault {
  const text = code || message;
  if (code === 'ECONNREFUSED') return { finding: 'port-closed', text };
  if (code === 'ECONNRESET') return { finding: 'cut-before-answer', text };
  return { finding: code === 'ETIMEDOUT' ? 'port-silent' : 'unreachable', text };
}

/**
 * TLS over a connection. The certificate is looked at afterwards, so that there is more to say of it than that it is bad:
 * see `TlsFacts.fault`.
 */
export async function dialTls(
  socket: Socket,
  { hostname }: Target,
  { timeoutMs, ca }: DialOptions,
): Promise<TLSSocket | Fault> {
  const { promise, resolve } = Promise.withResolvers<TLSSocket | Fault>();
  const secure = tlsConnect({
    socket,
    servername: isIP(hostname) === 0 ? hostname : '',
    rejectUnauthorized: false,
    ALPNProtocols: ['http/1.1'],
    ...(ca === undefined ? {} : { ca }),
  });
  const timer = setTimeout(resolve, timeoutMs, {
    finding: 'tls-failed',
    text: `no answer within ${shownTime(timeoutMs)}`,
  });
  secure.once('secureConnect', () => resolve(secure));
  secure.on('error', error => resolve(tlsFault(error)));
  secure.once('close', () => resolve({ finding: 'tls-failed', text: 'the connection was cut' }));
  const result = await promise;
  clearTimeout(timer);
  if (result !== secure) secure.destroy();
  return result;
}

/** The codes of OpenSSL, by what they mean. */
const TLS_CODES: readonly (readonly [RegExp, FindingCode])[] = [
  [/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|UNEXPECTED_MESSAGE|RECORD_TOO/, 'tls-not-spoken'],
  [/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|NO_PROTOCOLS/, 'tls-version'],
  [/CERTIFICATE_REQUIRED|BAD_CERTIFICATE|PEER_DID_NOT_RETURN/, 'client-certificate-required'],
];

export function tlsFault(error: NodeJS.ErrnoException): Fault {
  const text = shown(error.code ?? error.message);
  return { finding: TLS_CODES.find(([pattern]) => pattern.test(text))?.[1] ?? 'tls-failed', text };
}

/** What is to be said of the certificate of a server. */
export function tlsFacts(socket: TLSSocket, { hostname }: Target, now: number): TlsFacts {
  const certificate = socket.getPeerX509Certificate();
  const [subject, issuer] = [certificate?.subject, certificate?.issuer].map(name =>
    shown(name?.split('\n').at(-1) ?? ''),
  );
  return {
    protocol: socket.getProtocol() ?? '',
    subject: subject!,
    issuer: issuer!,
    validTo: certificate?.validToDate.toISOString().slice(0, 10) ?? '',
    fault: certificateFault(socket, hostname, now),
  };
}

function certificateFault(socket: TLSSocket, hostname: string, now: number): TlsFacts['fault'] {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return { finding: 'tls-failed', text: 'it shows no certificate', isWarning: false };
  const doubt = certificateDoubt(certificate, now);
  const fault = doubt && { finding: OF_DOUBT[doubt.kind], text: doubt.message };
  const isWarning = doubt?.kind === 'certificate-ends-soon';
  if (fault && !isWarning) return { ...fault, isWarning };
  const stranger = checkServerIdentity(hostname, socket.getPeerCertificate());
  if (stranger !== undefined) {
    const text = `it is for ${shown(certificate.subjectAltName ?? 'no name')}`;
    return { finding: 'certificate-name', text, isWarning: false };
  }
  const untrusted = socket.authorizationError as unknown as string | Error | null | undefined;
  if (untrusted) return untrustedFault(certificate, untrusted instanceof Error ? messageOf(untrusted) : untrusted);
  return fault && { ...fault, isWarning };
}

const OF_DOUBT = {
  'certificate-over': 'certificate-expired',
  'certificate-not-begun': 'certificate-early',
  'certificate-ends-soon': 'certificate-ending',
} as const satisfies Record<string, FindingCode>;

function untrustedFault({ infoAccess }: X509Certificate, code: string): TlsFacts['fault'] {
  const isUnknown = code === 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' || code === 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY';
  // A public authority says where its intermediate certificate is; one of one's own as a rule does not.
  const isChain = isUnknown && infoAccess?.includes('CA Issuers') === true;
  const ofIntermediate = code === 'CERT_HAS_EXPIRED' ? 'certificate-expired' : 'certificate-untrusted';
  return { finding: isChain ? 'certificate-chain' : ofIntermediate, text: shown(code), isWarning: false };
}
