import type { Socket } from 'node:net';
import { HoldfastError } from '../../base/errors.ts';
import { checkUpgradeResponse, createUpgradeRequest, headerLine } from '../../websocket/protocol/handshake.ts';
import { acceptDeflate, offerDeflate } from '../../websocket/protocol/permessage-deflate.ts';
import { type DialOptions, dialTcp, dialTls, type Fault, tlsFacts } from './dial.ts';
import { type Answer, type Broken, exchange, isBroken } from './exchange.ts';
import { ProbeSocket } from './probe-socket.ts';
import type { Target } from './target.ts';

/** What every request brings. */
export interface VisitOptions extends DialOptions {
  /** Name and value, as often as wanted. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** `name=value; name=value`. */
  readonly cookie: string | undefined;
  /** A certificate that is not good does not end it. */
  readonly isInsecure: boolean;
}

export interface HandshakeOptions {
  /** Undefined: none, as clients that are not browsers do. */
  readonly origin: string | undefined;
  /** Default: that of the visit. Null: none. */
  readonly cookie?: string | null;
  readonly subprotocols?: readonly string[];
  /** Offers permessage-deflate. */
  readonly compression?: boolean;
}

/** What became of a handshake. */
export type Handshake =
  | {
      readonly kind: 'open';
      readonly answer: Answer;
      readonly socket: ProbeSocket;
      readonly subprotocol: string;
      readonly isCompressed: boolean;
    }
  /** Any other status than 101. */
  | { readonly kind: 'refused'; readonly answer: Answer }
  /** A 101 that is not one for us. */
  | { readonly kind: 'wrong'; readonly answer: Answer; readonly text: string; readonly isExtension: boolean }
  | { readonly kind: 'broken'; readonly broken: Broken }
  | { readonly kind: 'unreachable'; readonly fault: Fault };

/** As browsers offer it. */
const COMPRESSION = { contextTakeover: true };
const AGENT = 'User-Agent';

/**
 * Sees whether the options can be sent at all.
 *
 * @throws {TypeError} that says which cannot.
 */
export function checkRequest(
  target: Target,
  options: Pick<VisitOptions, 'headers' | 'cookie'> & {
    origin?: string | null | undefined;
    subprotocols: readonly string[];
  },
): void {
  const { headers, cookie, origin, subprotocols } = options;
  const values: Record<string, string[]> = Object.fromEntries(headers.map(([name, value]) => [name, [value]]));
  if (cookie !== undefined) values.Cookie = [cookie];
  if (origin) values.Origin = [origin];
  createUpgradeRequest({ host: target.host, path: target.path, subprotocols, headers: values });
}

/** Requests and handshakes to one address of a target, each on a connection of its own. */
export class Visit {
  readonly target: Target;
  readonly options: VisitOptions;
  readonly #address: string;

  constructor(target: Target, address: string, options: VisitOptions) {
    this.target = target;
    this.#address = address;
    this.options = options;
  }

  /**
   * A connection, with TLS where the target has it. Its certificate is judged each time: behind one address there may be
   * several servers, and what is sent could be a cookie.
   */
  async open(): Promise<Socket | Fault> {
    const { target, options } = this;
    const socket = await dialTcp(this.#address, target.dial.port, options.timeoutMs);
    if ('finding' in socket || !target.isSecure) return socket;
    const secure = await dialTls(socket, target, options);
    if ('finding' in secure || options.isInsecure) return secure;
    const { fault } = tlsFacts(secure, target, Date.now());
    if (fault === undefined || fault.isWarning) return secure;
    secure.destroy();
    return fault;
  }

  /** A plain request for the same place. @param cookie Null: none. */
  async get(cookie?: string | null): Promise<Answer | Broken | Fault> {
    const lines = this.#headers(cookie, undefined).map(([name, value]) => headerLine(name, value));
    const { path, host } = this.target;
    const head = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nAccept: */*\r\nConnection: close\r\n${lines.join('')}\r\n`;
    return await this.#send(Buffer.from(head, 'latin1'));
  }

  async handshake({ origin, cookie, subprotocols, compression = false }: HandshakeOptions): Promise<Handshake> {
    const extensions = compression ? offerDeflate(COMPRESSION) : undefined;
    const headers: Record<string, string[]> = Object.create(null);
    for (const [name, value] of this.#headers(cookie, origin)) {
      headers[name] ??= [];
      headers[name].push(value);
    }
    const { host, path } = this.target;
    const request = createUpgradeRequest({ host, path, subprotocols, extensions, headers });
    const socket = await this.open();
    if ('finding' in socket) return { kind: 'unreachable', fault: socket };
    const answer = await exchange(socket, request.bytes, this.options.timeoutMs);
    if (isBroken(answer)) return { kind: 'broken', broken: answer };
    if (answer.head.status !== 101) return { kind: 'refused', answer };
    let isExtension = false;
    try {
      const agreed = checkUpgradeResponse(answer.head, { key: request.key, subprotocols, extensions });
      isExtension = true;
      const isCompressed = acceptDeflate(agreed.extensions, COMPRESSION) !== undefined;
      const probe = new ProbeSocket(socket, answer.early, { isCompressed, timeoutMs: this.options.timeoutMs });
      return { kind: 'open', answer, socket: probe, subprotocol: agreed.subprotocol ?? '', isCompressed };
    } catch (error) {
      socket.destroy();
      if (!(error instanceof HoldfastError)) throw error;
      return { kind: 'wrong', answer, text: error.message, isExtension };
    }
  }

  async #send(bytes: Buffer): Promise<Answer | Broken | Fault> {
    const socket = await this.open();
    if ('finding' in socket) return socket;
    const answer = await exchange(socket, bytes, this.options.timeoutMs);
    // Also after a 101 that nobody has asked for.
    socket.destroy();
    return answer;
  }

  #headers(cookie: string | null | undefined, origin: string | undefined): (readonly [string, string])[] {
    const shownCookie = cookie === undefined ? this.options.cookie : (cookie ?? undefined);
    const { headers } = this.options;
    return [
      ...(headers.some(([name]) => name.toLowerCase() === AGENT.toLowerCase())
        ? []
        : [[AGENT, 'holdfast-doctor'] as const]),
      ...headers,
      ...(origin === undefined ? [] : [['Origin', origin] as const]),
      ...(shownCookie === undefined ? [] : [['Cookie', shownCookie] as const]),
    ];
  }
}
