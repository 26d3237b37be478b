import net from 'node:net';
import tls from 'node:tls';
import type { Clock } from '../../base/clock.ts';
import { setDeadline } from '../../base/deadlines.ts';
import { HoldfastError } from '../../base/errors.ts';
import { parseServerAddress, type ServerAddress } from '../../http/server-address.ts';
import { trackStage, whenOpen } from './stage.ts';
import { TlsSessions } from './tls-sessions.ts';

/** After this silence TCP itself asks whether the other end still exists. */
const TCP_KEEPALIVE_MS = 30_000;

/** How we speak TLS to a backend: everything in PEM. */
export interface UpstreamTls {
  /** The authorities that may have signed the server's certificate. Default: those of Node. */
  readonly ca?: string | Buffer;
  /** The name asked for (SNI) and found in the certificate. Default: the host of the server's URL. */
  readonly serverName?: string;
  /** Our own certificate, for a server that asks for one; with `key`. */
  readonly certificate?: string | Buffer;
  readonly key?: string | Buffer;
  /** `false` takes any certificate. Default true. */
  readonly verify?: boolean;
}

/**
 * Reads `http://host:port`, `https:`, `ws:`, `wss:` (the same as `http:` and `https:`), or `unix:/path/of/socket`.
 *
 * @throws {TypeError} that says what to write.
 */
export function parseServerUrl(upstream: string, text: string): ServerAddress {
  const address = parseServerAddress(text);
  if (address) return address;
  throw new TypeError(`upstream "${upstream}": not a server: "${text}"; write http://host:port or unix:/path`);
}

export interface DialerOptions {
  readonly upstream: string;
  readonly connectTimeoutMs: number;
  readonly tls: UpstreamTls | undefined;
}

/** Opens connections to one server. */
export class Dialer {
  readonly #address: ServerAddress;
  readonly #options: DialerOptions;
  readonly #clock: Clock;
  readonly #tls: tls.ConnectionOptions | undefined;
  readonly #tlsSessions: TlsSessions;

  constructor(address: ServerAddress, options: DialerOptions, clock: Clock) {
    this.#address = address;
    this.#options = options;
    this.#clock = clock;
    this.#tlsSessions = new TlsSessions(clock);
    if (address.isTls) this.#tls = tlsOptions(address, options.tls ?? {});
  }

  /**
   * The socket is returned while it still connects. When it cannot be used within the connect timeout, TLS included, it
   * is destroyed with `ERR_UPSTREAM_TIMEOUT`. The caller must listen for `error`.
   */
  open(): net.Socket {
    const { hostname, port, socketPath } = this.#address;
    const common = { noDelay: true, keepAlive: true, keepAliveInitialDelay: TCP_KEEPALIVE_MS };
    const place = socketPath === undefined ? { host: hostname, port, ...common } : { path: socketPath };
    const socket = this.#tls ? this.#openTls(place) : net.connect(place);
    trackStage(socket);
    const { connectTimeoutMs } = this.#options;
    const deadline = setDeadline(this.#clock, connectTimeoutMs, () => {
      const { upstream } = this.#options;
      socket.destroy(
        new HoldfastError(
          'ERR_UPSTREAM_TIMEOUT',
          `upstream "${upstream}" did not accept a connection at ${this.#address.url} within ${connectTimeoutMs} ms`,
          { status: 504 },
        ),
      );
    });
    if (!deadline) return socket;
    const settle = () => {
      deadline.clear();
      // A socket may live for long, and each listener takes memory.
      socket.off('close', settle);
    };
    whenOpen(socket, settle);
    socket.on('close', settle);
    return socket;
  }

  #openTls(place: net.NetConnectOpts): tls.TLSSocket {
    const sessions = this.#tlsSessions;
    const session = sessions.take();
    const socket = tls.connect({ ...place, ...this.#tls!, ...(session && { session: session.data }) });
    // Node does not look at the name of a server again when a session is resumed: so one counts only when it was found
    // good.
    let provenAt: number | undefined;
    const given: Buffer[] = [];
    socket.on('session', data => {
      if (provenAt === undefined) given.push(data);
      else sessions.add({ data, provenAt });
    });
    socket.once('secureConnect', () => {
      provenAt = session && socket.isSessionReused() ? session.provenAt : this.#clock.monotonic();
      for (const data of given.splice(0)) sessions.add({ data, provenAt });
    });
    if (session === undefined) return socket;
    // What becomes of a connection that is open says nothing of the session: many servers end theirs with a reset.
    const onClose = () => sessions.clear();
    socket.once('close', onClose).once('secureConnect', () => socket.off('close', onClose));
    return socket;
  }
}

/** @throws what OpenSSL says of a certificate, key or CA that it cannot read. */
function tlsOptions({ hostname }: ServerAddress, options: UpstreamTls): tls.ConnectionOptions {
  const { ca, serverName, certificate, key, verify = true } = options;
  const name = serverName ?? hostname;
  return {
    // The files are read once, not for each connection.
    secureContext: tls.createSecureContext({
      ...(ca !== undefined && { ca }),
      ...(certificate !== undefined && { cert: certificate }),
      ...(key !== undefined && { key }),
    }),
    // RFC 6066 §3: an address is no name to ask for; it is still looked for in the certificate.
    ...(net.isIP(name) === 0 && { servername: name }),
    ...(serverName !== undefined && {
      checkServerIdentity: (_host: string, seen: tls.PeerCertificate) => tls.checkServerIdentity(serverName, seen),
    }),
    ALPNProtocols: ['http/1.1'],
    rejectUnauthorized: verify,
  };
}
