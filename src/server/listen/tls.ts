import type { Socket } from 'node:net';
import { createServer, type TLSSocket, type TlsOptions, type Server as TlsServer } from 'node:tls';
import { type Clock, LONGEST_TIMER_MS } from '../../base/clock.ts';
import { type Deadline, setDeadline } from '../../base/deadlines.ts';
import { type Duration, parseDuration } from '../../base/duration.ts';
import type { Logger } from '../../base/logger.ts';
import type { ListenConfig, TlsConfig } from '../../config/config.ts';
import { peerAddressOf, setPeer } from '../../http/peer.ts';
import type { ProxyHeader } from '../../http/proxy-protocol.ts';
import type { SecurityEvents } from '../../policy/security-events.ts';
import { dataFolderOf } from '../data-folder.ts';
import { readBeginning } from './beginning.ts';
import { CertificateEnds } from './certificate-ends.ts';
import { CertificateFiles, type CertificateTerm } from './certificate-files.ts';
import { clientHelloIn } from './client-hello.ts';
import { ClientTrust } from './client-trust.ts';
import { developmentCertificate } from './development-certificate.ts';
import type { ListenerMeters, ListenerOptions } from './listener-options.ts';
import { Turnstile } from './turnstile.ts';
import { wireOf } from './wire-bytes.ts';

/**
 * A signature is some 0.5 ms, in which nobody else gets anything: so the clients that want one wait for each other, and
 * not the whole server for them. One for all listeners, as there is one event loop.
 */
const turnstile = new Turnstile();

/** How codes of errors begin that OpenSSL has found. */
const OF_OPENSSL = 'ERR_SSL_';

/** TLS for sockets that a listener has accepted. */
export class TlsListener {
  /** The value of `Strict-Transport-Security`; undefined when it is not to be sent. */
  readonly hsts: string | undefined;
  readonly #server: TlsServer;
  readonly #files: CertificateFiles;
  readonly #ends: CertificateEnds;
  /** Undefined where no client certificates are requested. */
  readonly #clients: ClientTrust | undefined;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #meters: ListenerMeters | undefined;
  readonly #handshakeTimeoutMs: number;
  /** Of handshakes that are under way, by their TCP connections. */
  readonly #deadlines = new Map<object, Deadline>();
  /** What proxies said of connections whose handshake is under way, by the addresses of both ends. */
  readonly #headers = new Map<object, ProxyHeader>();

  /**
   * @param handshakeTimeoutMs The time for the request head begins after it.
   * @throws {HoldfastError} ERR_CONFIG_INVALID when a certificate cannot be used.
   */
  constructor(
    { tls, http2 }: ListenConfig,
    handshakeTimeoutMs: number,
    { config, clock, logger, security, meters, withdrawCertificates }: ListenerOptions,
    onSecure: (socket: TLSSocket) => void,
  ) {
    this.#clock = clock;
    this.#logger = logger;
    this.#meters = meters;
    this.#handshakeTimeoutMs = handshakeTimeoutMs;
    const folder = dataFolderOf(config);
    const own: TlsConfig =
      tls === 'self-signed' ? developmentCertificate(folder.path, clock.now(), logger, folder.disk) : tls!;
    const { certificates = [], clientCertificates, minVersion = 'TLSv1.2' } = own;
    this.hsts = own.hsts === undefined ? undefined : hstsValue(own.hsts);
    this.#files = new CertificateFiles({
      pairs: [own, ...certificates],
      clients: clientCertificates,
      minVersion,
      clock,
      logger,
      onChange: () => {
        // It makes the tickets of before useless, so that who resumes is judged by the new lists as well.
        this.#server.setSecureContext(this.#files.defaultOptions);
        this.#clients?.review();
        this.#ends.review();
      },
    });
    this.#ends = new CertificateEnds({ used: () => this.#files.certificates, clock, logger });
    this.#clients =
      clientCertificates &&
      new ClientTrust({
        isRequired: clientCertificates.mode !== 'request',
        hasLists: clientCertificates.crl !== undefined,
        files: this.#files,
        ...{ clock, logger, security, withdraw: withdrawCertificates },
      });
    const options: TlsOptions = {
      ...this.#files.defaultOptions,
      handshakeTimeout: LONGEST_TIMER_MS, // the deadline of a handshake is ours
      ALPNProtocols: http2 === false ? ['http/1.1'] : ['h2', 'http/1.1'],
      SNICallback: (name, answer) => answer(null, this.#files.contextFor(name)),
      // Node says nowhere why it has rejected one, so that is done here.
      ...(clientCertificates && { requestCert: true, rejectUnauthorized: false }),
    };
    this.#server = createServer(options, socket => {
      if (meters) meters.tls.completed++;
      this.#deadlines.get(wireOf(socket)!)?.clear();
      const header = this.#headers.get(wireOf(socket)!);
      if (header) setPeer(socket, header);
      if (this.#clients?.admit(socket) === false) return void socket.destroy();
      onSecure(socket);
    });
    this.#server.on('tlsClientError', (error, socket) => {
      if (meters) meters.tls.failed++;
      reportFailure(error, this.#headers.get(wireOf(socket)!)?.source?.address ?? peerAddressOf(socket), security);
      // An answer could only be sent through the TLS that is not there.
      socket.destroy();
    });
  }

  get certificates(): readonly CertificateTerm[] {
    return this.#files.terms;
  }

  /** @param header Who the client is. Default: the other end of the socket, also when it has reset the connection. */
  take(socket: Socket, header = headerOf(socket)): void {
    const wire = wireOf(socket)!;
    this.#headers.set(wire, header);
    socket.once('close', () => this.#headers.delete(wire));
    const deadline = setDeadline(this.#clock, this.#handshakeTimeoutMs, () => {
      const address = header.source?.address ?? peerAddressOf(socket);
      if (this.#meters) this.#meters.tls.timeout++;
      this.#logger.debug({ event: 'slow-client', address }, 'connection ended: its TLS handshake took too long');
      socket.destroy();
    });
    if (deadline) this.#deadlines.set(wire, deadline);
    // Of those that give way to others the oldest are next here, too, and their "close" has yet to come.
    const begin = () => !socket.destroyed && this.#server.emit('connection', socket);
    socket.once('close', () => {
      deadline?.clear();
      this.#deadlines.delete(wire);
      turnstile.leave(begin);
    });
    readClientHello(socket, () => turnstile.enter(begin));
  }

  /** Takes certificates, keys and lists that have changed. */
  readFiles(): void {
    void this.#files.look();
  }

  close(): void {
    this.#clients?.close();
    this.#ends.close();
    this.#files.close();
  }
}

function headerOf({ remoteAddress = '', remotePort = 0 }: Socket): ProxyHeader {
  return { length: 0, source: { address: remoteAddress, port: remotePort }, isSecure: false };
}

/**
 * Calls back when the client has sent a whole ClientHello, which is what OpenSSL answers with a signature, or something
 * else, which it refuses at once. The socket stands before it then.
 */
function readClientHello(socket: Socket, onRead: () => void): void {
  readBeginning(socket, {
    read(bytes) {
      const read = clientHelloIn(bytes);
      return read === 'incomplete' ? undefined : read;
    },
    onRead(read, bytes) {
      if (read === 'too long') return void socket.destroy();
      socket.unshift(bytes);
      onRead();
    },
    onGone: () => void socket.destroy(),
  });
}

/** A client that leaves before the end has no event: load balancers look so whether a port is open. */
function reportFailure({ code = '' }: NodeJS.ErrnoException, address: string, security: SecurityEvents): void {
  if (!code.startsWith(OF_OPENSSL)) return;
  security.report({
    event: 'tls-handshake-failed',
    address,
    failure: code.slice(OF_OPENSSL.length),
    reason: 'a TLS handshake failed',
  });
}

/** RFC 6797 §6.1. */
function hstsValue(hsts: NonNullable<TlsConfig['hsts']>): string {
  const { maxAge, includeSubDomains, preload } =
    typeof hsts === 'object' ? hsts : { maxAge: hsts as Duration, includeSubDomains: false, preload: false };
  const directives = [`max-age=${Math.ceil(parseDuration(maxAge) / 1_000)}`];
  if (includeSubDomains) directives.push('includeSubDomains');
  if (preload) directives.push('preload');
  return directives.join('; ');
}
