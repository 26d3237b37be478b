import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { checkOptions, kindOf, type OptionNames } from '../base/options.ts';
import { isDocumentNavigation, isPreflight } from '../http/navigation.ts';
import { type RequestSite, requestSite } from '../http/request-site.ts';
import { takeUrlTickets } from '../http/url-ticket.ts';
import { warnOfClash, warnOfClashesBeside } from './cookie-clash.ts';
import type { SessionManager } from './manager.ts';
import type { SessionBinding } from './request/binding.ts';
import { commitBeforeHeaders } from './request/commit-before-headers.ts';
import { ResponseCommit } from './request/response-commit.ts';
import type { SessionRequest } from './request/session-request.ts';
import type { SessionOwner } from './session.ts';

/** Fastify's `request` and `reply`, without a dependency on Fastify. */
export interface Wrapped<T> {
  readonly raw: T;
}

/** The context of Hono on `@hono/node-server`, without a dependency on either. */
export interface NodeContext {
  /** `{ incoming, outgoing }`. Hono knows its type only when the application says so. */
  readonly env: unknown;
}

export interface AttachOptions {
  /**
   * Whether the client speaks TLS. Default: whether the connection itself does. Behind a proxy that ends TLS, say what
   * the client speaks.
   */
  readonly isSecure?: boolean;
  /**
   * The user whom the application has authenticated for this request by other means. A session that another user owns
   * is then refused (403).
   */
  readonly user?: SessionOwner;
  /**
   * This request is the callback of a login by `form_post`: `signIn` may set the cookie although a page of another site
   * has sent it. The handler MUST check that the login was begun here (`state`). Default false.
   */
  readonly isCrossSiteSignIn?: boolean;
  /**
   * `false`: the request does not keep its session alive, as one that a page sends by itself again and again. It sees and
   * changes the session like any other. The first call for a response decides. Default true.
   */
  readonly touch?: boolean;
  /**
   * Attributes that lie apart (`attributes` of the manager) and that this request needs: they are loaded with the
   * session, so that `get` works without `load`. Default: none.
   */
  readonly attributes?: readonly string[];
}

const ATTACH_OPTIONS: OptionNames<AttachOptions> = {
  isSecure: 'flag',
  user: true,
  isCrossSiteSignIn: 'flag',
  touch: 'flag',
  attributes: 'list',
};

/**
 * Gives a request its session: `manager.get(request)` and `manager.open(request)` work from here on, and what a handler
 * changes is in the store before the client sees the response (see `commitBeforeHeaders`). Call it before the handler;
 * a second call for the same response returns the first one's binding:
 *
 * - node:http, Express: `attachSession(manager, req, res)`, also with the compatibility API of node:http2
 * - Fastify: `attachSession(manager, request, reply)`, in an `onRequest` hook
 * - Hono on `@hono/node-server`: `attachSession(manager, c)`
 *
 * With tracking by `url` the ticket is taken out of `req.url` and `Referer`, and the answer says `Referrer-Policy:
 * same-origin` unless the handler says otherwise. What may hold a ticket is kept from shared caches. Links and redirects are `encodeUrl` of the binding. Fastify and Hono have read the URL by
 * then: it is for node:http and Express.
 *
 * What was given (`req`, `request`, `c`) is what `get` and `open` take afterwards; for Fastify and Hono the
 * `IncomingMessage` behind it works too.
 *
 * @throws {TypeError} when there is no `node:http` request behind what was given.
 *
 * @example
 * import { createServer } from 'node:http';
 * import { attachSession, MemoryStore, SessionManager } from 'holdfast/session';
 *
 * const sessions = new SessionManager({ store: new MemoryStore(), keys: [crypto.getRandomValues(new Uint8Array(32))] });
 * const server = createServer(async (request, response) => {
 *   attachSession(sessions, request, response);
 *   const session = await sessions.open(request);
 *   session.set('theme', 'dark');
 *   response.end(); // leaves when the change is stored
 * });
 * server.close();
 * await sessions.close();
 */
export function attachSession(manager: SessionManager, context: NodeContext, options?: AttachOptions): SessionBinding;
export function attachSession(
  manager: SessionManager,
  req: IncomingMessage | Wrapped<IncomingMessage>,
  res: ServerResponse | Wrapped<ServerResponse>,
  options?: AttachOptions,
): SessionBinding;
export function attachSession(manager: SessionManager, carrier: object, ...rest: unknown[]): SessionBinding {
  checkManager('attachSession', manager);
  const { req, res, options } = unwrap(carrier, rest);
  checkOptions('attachSession', options, ATTACH_OPTIONS);
  const before = (res as BoundResponse)[BINDINGS]?.find(bound => bound.manager === manager);
  const binding = before?.binding ?? bindTo(manager, req, res, options);
  manager.bindTo(carrier, binding);
  if (req !== carrier) manager.bindTo(req, binding);
  // Hono's request as the web has it: what else takes one is given that.
  const { raw } = (carrier as { req?: { raw?: unknown } }).req ?? {};
  if (typeof raw === 'object' && raw !== null) manager.bindTo(raw, binding);
  return binding;
}

/**
 * Where a response has its bindings: an application may have a manager for each of its parts, and middleware may run
 * twice. A property, because a weak map of objects that live as long as a request keeps the garbage collector busy.
 */
const BINDINGS = Symbol('holdfast session bindings');
type BoundResponse = ServerResponse & { [BINDINGS]?: { manager: SessionManager; binding: SessionBinding }[] };

function bindTo(
  manager: SessionManager,
  req: IncomingMessage,
  res: ServerResponse,
  options: AttachOptions,
): SessionBinding {
  const request = new NodeRequest(req, options, manager.tracking);
  // No other site may learn the URL.
  if (request.urlTicket !== undefined && !res.headersSent) res.setHeader('Referrer-Policy', 'same-origin');
  const binding = manager.bind(request);
  const bound: BoundResponse = res;
  const bindings = (bound[BINDINGS] ??= []);
  for (const before of bindings) warnOfClash(manager, before.manager, binding.logger);
  bindings.push({ manager, binding });
  // Over HTTP/2 that is a stand-in, which throws when the connection is gone.
  if (req.httpVersionMajor < 2) warnOfClashesBeside((req.socket as { server?: object } | undefined)?.server, manager);
  // What Engine.IO hands out for a handshake takes no cookie.
  if (typeof (res as Partial<ServerResponse>).appendHeader === 'function') commitBeforeHeaders(binding, res);
  else followHandshake(binding, res);
  return binding;
}

/**
 * A handshake that another library answers: nothing can be told to its client, and what is changed is committed when its
 * socket closes.
 */
function followHandshake(binding: SessionBinding, res: ServerResponse): void {
  binding.markHeadersSent();
  new ResponseCommit(binding, res);
  res.on('close', () => binding.release());
}

/** @throws {TypeError} when it is none. */
export function checkManager(call: string, manager: SessionManager): void {
  if (typeof (manager as Partial<SessionManager> | undefined)?.bindTo !== 'function')
    throw new TypeError(`${call}: give it the SessionManager first, not ${kindOf(manager)}`);
}

/** What sessions look at in a request; what few ask for is worked out then. */
export class NodeRequest implements SessionRequest {
  readonly cookieHeader: string | undefined;
  readonly urlTicket: string | undefined;
  readonly user: SessionOwner | undefined;
  readonly isSecure: boolean;
  readonly isCrossSiteSignIn: boolean | undefined;
  readonly touch: boolean | undefined;
  readonly attributes: readonly string[] | undefined;
  readonly #isSchemeKnown: boolean;
  readonly #req: IncomingMessage;

  /** Takes the ticket of its URL out of the request. */
  constructor(req: IncomingMessage, options: AttachOptions, { kinds, urlParameter }: SessionManager['tracking']) {
    this.#req = req;
    this.cookieHeader = req.headers.cookie;
    this.urlTicket = kinds.includes('url') ? takeUrlTickets(req, new Set([urlParameter]))[0]?.value : undefined;
    this.user = options.user;
    this.isSecure = options.isSecure ?? (req.socket as Partial<TLSSocket>).encrypted === true;
    this.#isSchemeKnown = this.isSecure || options.isSecure !== undefined;
    this.isCrossSiteSignIn = options.isCrossSiteSignIn;
    this.touch = options.touch;
    this.attributes = options.attributes;
  }

  get method(): string | undefined {
    return this.#req.method;
  }

  get site(): RequestSite {
    const { headers } = this.#req;
    const host = headers.host ?? (headers[':authority'] as string | undefined) ?? '';
    return requestSite(headers, { host, isSecure: this.isSecure, isSchemeKnown: this.#isSchemeKnown });
  }

  get isDocumentNavigation(): boolean {
    return isDocumentNavigation(this.#req);
  }

  get isPreflight(): boolean {
    return isPreflight(this.#req);
  }

  readHeader(name: string): string | undefined {
    const value = this.#req.headers[name.toLowerCase()];
    return typeof value === 'string' ? value : undefined;
  }
}

function unwrap(
  carrier: object,
  rest: readonly unknown[],
): { readonly req: IncomingMessage; readonly res: ServerResponse; readonly options: AttachOptions } {
  const [first, second] = rest;
  // An application may have put an `env` on its requests, too.
  const isPair = typeof rawOf<ServerResponse>(first)?.writeHead === 'function';
  const { env } = (carrier ?? {}) as { env?: { incoming?: unknown; outgoing?: unknown } };
  const req = rawOf<IncomingMessage>(isPair ? carrier : env?.incoming);
  const res = rawOf<ServerResponse>(isPair ? first : env?.outgoing);
  if (typeof req?.headers !== 'object' || typeof res?.writeHead !== 'function') {
    throw new TypeError(
      'attachSession: no node:http request and response; give it (req, res), (request, reply) of Fastify, or the context of Hono on @hono/node-server',
    );
  }
  return { req, res, options: ((isPair ? second : first) as AttachOptions | undefined) ?? {} };
}

/** What Fastify has wrapped, or what is not wrapped. */
export function rawOf<T>(wrapped: unknown): T | undefined {
  return ((wrapped as Partial<Wrapped<T>> | undefined)?.raw ?? wrapped) as T | undefined;
}
