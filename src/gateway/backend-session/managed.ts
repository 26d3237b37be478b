import { isHoldfastError } from '../../base/errors.ts';
import { type Logger, sidPrefix } from '../../base/logger.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { isRefusal, type Refusal, refuse, refuseUnforeseen } from '../../http/refusal.ts';
import { superseded } from '../../session/record/state.ts';
import type { Session, SessionOwner } from '../../session/session.ts';
import type { HeldSession } from '../held-session.ts';
import { sessionFailure } from '../session-failure.ts';
import type { AssertionIssuer } from './assertion.ts';
import type { AnsweredBy, BackendSession, Heard } from './backend-session.ts';
import { CONTROL_HEADER, parseSessionControl, type SessionControl } from './control-header.ts';
import { type UpstreamIdentity, URL_TICKET_HEADER } from './identity.ts';

/** The upstream, as far as it concerns our sessions. */
export interface ControllingUpstream {
  readonly name: string;
  readonly identity: UpstreamIdentity;
  /** Left out: it gets no assertions. */
  readonly assertions?: AssertionIssuer | undefined;
  readonly logger: Logger;
  /** Says something in the log once for each reason. */
  warnOnce(reason: string, fields: object, message: string): void;
}

export interface ManagedSessionOptions {
  /** Left out when the route has no sessions. */
  readonly held: HeldSession | undefined;
  /** Whom the route has authenticated; undefined: it asks for nobody, and the session's owner counts. */
  readonly user?: SessionOwner | undefined;
  /** What else the backend gets of them. */
  readonly targetHeaders?: readonly HeaderLine[] | undefined;
  readonly upstream: ControllingUpstream;
  /** Of a handshake: called when the backend has changed the session. Commits it and says itself what has changed. */
  readonly onChanged?: () => Promise<Refusal | undefined>;
}

/**
 * One exchange of a session that is ours: the backend is told whose it is, and may answer what is to become of it.
 *
 * An answer that signs in or out is passed on only when that is done: a login of which nothing came is worse than none.
 */
export class ManagedSession implements BackendSession {
  readonly #options: ManagedSessionOptions;

  constructor(options: ManagedSessionOptions) {
    this.#options = options;
  }

  requestHeaders(): readonly HeaderLine[] | Promise<readonly HeaderLine[]> {
    const { held, upstream, user } = this.#options;
    if (!held?.binding.current) return user ? this.#headersOf(undefined, undefined) : [];
    // Before anything is waited for: the client may leave meanwhile, and with it what the session can be asked.
    const lines = this.#headersOf(held.binding.current, held.binding.urlParameter);
    // The backend may ask for it before it answers.
    return upstream.identity.asksForSessions && held.binding.isDirty ? held.binding.commit().then(() => lines) : lines;
  }

  #headersOf(session: Session | undefined, urlParameter: string | undefined): readonly HeaderLine[] {
    const { identity, assertions } = this.#options.upstream;
    const owner = this.#options.user ?? session?.owner;
    const lines = owner ? userHeaders(owner, identity) : [];
    lines.push(...(this.#options.targetHeaders ?? []));
    if (assertions) lines.push({ name: identity.assertionHeader, value: assertions.issue(session?.id, owner) });
    if (urlParameter !== undefined) lines.push({ name: URL_TICKET_HEADER, value: urlParameter });
    return lines;
  }

  answered(
    rawHeaders: readonly string[],
    { status }: Pick<AnsweredBy, 'status'>,
  ): Promise<Heard | undefined> | undefined {
    const values = valuesOf(rawHeaders, CONTROL_HEADER);
    const { held, upstream } = this.#options;
    const isObeyed = values.length > 0 && upstream.identity.controlsSession && held !== undefined;
    if (values.length > 0 && !isObeyed) this.#warnOnce();
    if (!held) return undefined;
    const heard = isObeyed ? this.#obey(values, held) : this.#news(held);
    // As at an endpoint: a WebSocket would go on without the session that its route promises.
    if (status !== 101 || !held.lacksSignIn) return heard;
    return Promise.resolve(heard).then(told =>
      held.lacksSignIn && !isRefusal(told) ? sessionFailure(superseded()) : told,
    );
  }

  /** What the client has to learn, once it is committed. */
  #news(held: HeldSession): Promise<Heard> | undefined {
    return held.responseCommit?.commit()?.then(refusal => refusal ?? held.binding.responseHeaders());
  }

  async #obey(values: readonly string[], held: HeldSession): Promise<Heard | undefined> {
    const { upstream, onChanged } = this.#options;
    const { logger } = upstream;
    const control = values.length === 1 ? parseSessionControl(values[0]!) : 'is there twice';
    if (typeof control === 'string') return this.#withhold(control);
    try {
      await this.#carryOut(control, held);
      return await (onChanged ? onChanged() : this.#news(held));
    } catch (error) {
      if (isHoldfastError(error) && error.code === 'ERR_SESSION_LIFETIME')
        return this.#withhold(`asks for too much (${error.message})`);
      const what = 'a backend could not change a session';
      const fields = { upstream: upstream.name, action: control.action };
      const failure = sessionFailure(error);
      if (!failure) return refuseUnforeseen(error, logger, what, fields);
      logger.warn({ ...fields, err: error }, what);
      return failure;
    }
  }

  #withhold(why: string): Refusal {
    const { name, logger } = this.#options.upstream;
    const reason = `upstream "${name}" answered with a ${CONTROL_HEADER} header that ${why}; the answer is withheld`;
    logger.error({ upstream: name }, reason);
    return refuse(502, 'ERR_UPSTREAM_BAD_ANSWER', reason);
  }

  async #carryOut(control: SessionControl, { binding }: HeldSession): Promise<void> {
    if (control.action === 'end') {
      await binding.current?.invalidate('logout');
      return;
    }
    const { action: _action, owner, ...wishes } = control;
    if (owner === undefined) await (await binding.open()).renew(wishes);
    else await binding.signIn(owner, wishes);
    const { upstream } = this.#options;
    const sid = sidPrefix(binding.current!.id);
    upstream.logger.info(
      { event: 'session-renewed', upstream: upstream.name, sid, ...(owner && { user: owner.name }) },
      owner ? 'a backend has signed a user in' : 'a backend has renewed a session',
    );
  }

  #warnOnce(): void {
    this.#options.upstream.warnOnce(
      'session control',
      {},
      `a backend answers with ${CONTROL_HEADER} and is not heard; set "controlsSession: true" if it may sign in and out`,
    );
  }
}

function userHeaders({ name, roles }: SessionOwner, { userHeader, rolesHeader }: UpstreamIdentity): HeaderLine[] {
  const lines: HeaderLine[] = [];
  if (userHeader !== undefined) lines.push({ name: userHeader, value: visible(name) });
  if (rolesHeader !== undefined && roles.length > 0)
    lines.push({ name: rolesHeader, value: roles.map(visible).join(',') });
  return lines;
}

const VISIBLE = /^[\x21-\x24\x26-\x2b\x2d-\x7e]*$/;

/**
 * Percent-encoded (RFC 3986) where it is not visible ASCII, or a `%` or `,`: no name can end its header or look like
 * several roles.
 */
function visible(text: string): string {
  if (VISIBLE.test(text)) return text;
  return text.toWellFormed().replaceAll(/[^\x21-\x24\x26-\x2b\x2d-\x7e]+/g, part => encodeURIComponent(part));
}

function valuesOf(rawHeaders: readonly string[], name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const candidate = rawHeaders[i]!;
    if (candidate.length === name.length && candidate.toLowerCase() === name.toLowerCase())
      values.push(rawHeaders[i + 1]!);
  }
  return values;
}
