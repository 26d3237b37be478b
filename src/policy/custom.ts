import type { IncomingHttpHeaders } from 'node:http';
import type { Clock } from '../base/clock.ts';
import { setDeadline } from '../base/deadlines.ts';
import { type Duration, parseDuration } from '../base/duration.ts';
import type { Logger } from '../base/logger.ts';
import { kindOf } from '../base/options.ts';
import type { ClientCertificate } from '../http/client-certificate.ts';
import { headerName } from '../http/header-name.ts';
import { RETRY_AFTER_S, type Refusal, refuse } from '../http/refusal.ts';
import { isFieldValue, isToken } from '../http/token.ts';
import type { Session, SessionOwner } from '../session/session.ts';
import type { Decision } from './policy.ts';

/** What a custom policy is told of a request or handshake. */
export interface PolicyFacts {
  /** What the route is called in the logs. */
  readonly route: string;
  readonly method: string;
  /** Normalised: decoded where that changes nothing, without dot segments and double slashes. */
  readonly path: string;
  /** Without its `?`; `''` when there is none. */
  readonly query: string;
  /** The values of the pattern's `:name` segments, percent-decoded. */
  readonly params: Readonly<Record<string, string>>;
  /** Host and port that the client asked for. */
  readonly host: string;
  /** Lower-case names. */
  readonly headers: Readonly<IncomingHttpHeaders>;
  /** Who the client is, after trusted proxies were taken into account. `''` when nobody tells. */
  readonly clientAddress: string;
  /** The client speaks TLS to us, or to a trusted proxy in front of us. */
  readonly isSecure: boolean;
  /** It asks for a WebSocket. */
  readonly isWebSocket: boolean;
  /** The certificate that the client has shown to us and that is good. */
  readonly clientCertificate: ClientCertificate | undefined;
  /** What the request has for a session. What is changed here is kept when the request is let in. */
  readonly session: Session | undefined;
  /** Whose session it is. */
  readonly user: SessionOwner | undefined;
  /** Aborted when the policy has taken too long: nobody waits for its answer any more. */
  readonly signal: AbortSignal;
}

/** A refusal of a custom policy. */
export interface PolicyRefusal {
  /** 300 to 599. A WebSocket's client follows no redirect. */
  readonly status: number;
  /** Without what says where the answer ends, or is of its connection: that is the server's. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** For the log. The client does not see it. Default: that the policy refuses. */
  readonly reason?: string;
}

/** `true` lets the request in, `false` refuses it with 403. */
export type PolicyVerdict = boolean | PolicyRefusal;

/**
 * A policy of your own: `policy.custom` of the server, an application or a route.
 *
 * @example
 * import type { CustomPolicy } from 'holdfast';
 *
 * const officeHours: CustomPolicy = ({ method, user }) =>
 *   method === 'GET' || user?.roles.includes('admin') || { status: 403, reason: 'writes are for admins' };
 */
export type CustomPolicy = (facts: PolicyFacts) => PolicyVerdict | Promise<PolicyVerdict>;

export interface CustomPolicyConfig {
  judge: CustomPolicy;
  /** What takes longer has failed (503). Default `5s`; -1 is refused. */
  timeout?: Duration;
}

const DEFAULT_TIMEOUT = '5s';
const MAX_REASON = 200;

/**
 * Asks a policy of the application's. What it throws, a verdict that is none, and none in time are failures: the
 * request is refused with 503, never let in, and the log has the error.
 */
export class OwnPolicy {
  readonly #judge: CustomPolicy;
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  readonly #logger: Logger;

  constructor(policy: CustomPolicy | CustomPolicyConfig, { clock, logger }: { clock: Clock; logger: Logger }) {
    const { judge, timeout = DEFAULT_TIMEOUT } = typeof policy === 'function' ? { judge: policy } : policy;
    this.#judge = judge;
    this.#timeoutMs = parseDuration(timeout);
    this.#clock = clock;
    this.#logger = logger;
  }

  /** Never rejects. */
  async judge(facts: Omit<PolicyFacts, 'signal'>): Promise<Decision> {
    const gaveUp = new AbortController();
    try {
      // Not `async`: what it throws at once, and what it answers at once, need no promise of ours.
      const verdict = this.#judge({ ...facts, signal: gaveUp.signal });
      return decisionOf(isThenable(verdict) ? await this.#inTime(verdict, gaveUp) : verdict);
    } catch (error) {
      const { route, method, path } = facts;
      this.#logger.error({ event: 'custom-policy-failed', err: error, route, method, path }, 'a custom policy failed');
      return failed();
    }
  }

  /** A `then` of the program's own need not behave as that of a promise: `race` makes a promise of it. */
  async #inTime(verdict: Promise<PolicyVerdict>, gaveUp: AbortController): Promise<PolicyVerdict> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const deadline = setDeadline(this.#clock, this.#timeoutMs, () => {
      const error = new Error(`no verdict within ${this.#timeoutMs} ms`);
      reject(error);
      gaveUp.abort(error);
    });
    try {
      return await Promise.race([verdict, late]);
    } finally {
      deadline?.clear();
    }
  }
}

function isThenable(value: unknown): value is Promise<PolicyVerdict> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}

/** @throws {TypeError} when it is no verdict: a forgotten `return` must not let anybody in. */
function decisionOf(verdict: PolicyVerdict): Decision {
  if (verdict === true) return undefined;
  if (verdict === false) return refused({ status: 403 });
  const { status, headers, body, reason } = (verdict ?? {}) as Partial<PolicyRefusal>;
  if (!Number.isInteger(status) || status! < 300 || status! > 599)
    throw new TypeError(
      `a custom policy returned what is no verdict (${typeof verdict}); return true, false, or { status } from 300 to 599`,
    );
  if (body !== undefined && typeof body !== 'string') throw new TypeError('the body of a refusal is text');
  return refused({
    status: status!,
    ...(headers && { headers: checkedHeaders(headers) }),
    ...(body !== undefined && { body }),
    ...(reason && { reason }),
  });
}

/** Each is read once. @throws {TypeError} for what cannot be sent, and for what says where the answer ends. */
function checkedHeaders(headers: NonNullable<PolicyRefusal['headers']>): Record<string, string> {
  if (kindOf(headers) !== 'an object')
    throw new TypeError(`the headers of a refusal are an object, not ${kindOf(headers)}`);
  const checked: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (!isToken(name)) throw new TypeError(`not a header name: ${JSON.stringify(name)}`);
    const { lower, isHopByHop } = headerName(name);
    if (isHopByHop || lower === 'content-length')
      throw new TypeError(`the header ${name} is set by the server itself: leave it out of the refusal`);
    // The value may be a cookie: it is not repeated in the message.
    if (typeof value !== 'string' || !isFieldValue(value))
      throw new TypeError(`the header ${name} of a refusal is one line of text, in characters that headers can have`);
    checked[name] = value;
  }
  return checked;
}

function refused({ status, headers, body, reason = 'the custom policy refuses' }: PolicyRefusal): Refusal {
  return refuse(status, 'ERR_POLICY_CUSTOM', String(reason).slice(0, MAX_REASON), {
    ...(headers && { headers }),
    ...(body !== undefined && { body }),
  });
}

function failed(): Refusal {
  return refuse(503, 'ERR_POLICY_CUSTOM', 'a custom policy failed', {
    closeCode: 1011,
    headers: { 'Retry-After': RETRY_AFTER_S },
  });
}
