import { hash } from 'node:crypto';
import { HoldfastError, isHoldfastError } from '../../base/errors.ts';
import { isSid } from '../../session/identity/ids.ts';
import type { Session, SessionScope } from '../../session/session.ts';
import type { SessionContext } from '../held-session.ts';

/** A request of a backend whose token was good. */
export interface ApiRequest {
  readonly method: string;
  /** The decoded segments behind `/sessions`. */
  readonly path: readonly string[];
  readonly headers: { readonly [name: string]: string | readonly string[] | undefined };
  /** Read only when it is needed. @throws {HoldfastError} ERR_HTTP_BODY_TOO_LARGE. */
  readBody(): Promise<string>;
}

export interface ApiAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. Left out: no body. */
  readonly json?: string;
}

export interface SessionApiOptions {
  /** The backend sees and sets the attributes of this scope only (`session.scope`). */
  readonly scope: string;
  /** May it end sessions? */
  readonly mayEnd: boolean;
  /** Whose sessions it may ask for: those of the routes that lead to it. */
  readonly contexts: readonly SessionContext[];
}

/** The longest name of an attribute, its scope not counted. */
const MAX_NAME_LENGTH = 200;
/** How deep arrays and objects may stand in each other. */
const MAX_DEPTH = 100;

/**
 * The sessions as a backend sees them, over HTTP: who it belongs to, and the attributes of its own scope as JSON.
 *
 * Nothing that a backend does here counts as an access by the client: a session that only backends ask for ends by its
 * idle timeout.
 */
export class SessionApi {
  readonly #options: SessionApiOptions;

  constructor(options: SessionApiOptions) {
    this.#options = options;
  }

  /** @throws {HoldfastError} with the status that says the same. */
  async answer(request: ApiRequest): Promise<ApiAnswer> {
    const [sid, collection, name, ...more] = request.path;
    const isAttribute = collection === 'attributes' && name !== undefined && name !== '' && more.length === 0;
    if (!isSid(sid) || (collection !== undefined && !isAttribute)) throw notFound('there is nothing at this path');
    if (collection === undefined) return this.#session(request, sid);
    if (name!.length > MAX_NAME_LENGTH) throw badRequest(400, `a name has at most ${MAX_NAME_LENGTH} characters`);
    return this.#attribute(request, sid, name!);
  }

  async #session({ method }: ApiRequest, sid: string): Promise<ApiAnswer> {
    const { contexts, scope, mayEnd } = this.#options;
    switch (method) {
      case 'GET': {
        for (const { manager } of contexts) {
          const info = await manager.info(sid);
          if (!info) continue;
          const { owner, createdAt, lastAccessedAt, idleTimeoutMs, absoluteExpiresAt, isPersistent } = info;
          const start = `${scope}:`;
          const names = info.attributes.map(({ name }) => name).filter(name => name.startsWith(start));
          const attributes = names.map(name => name.slice(start.length));
          return ok({
            ...{ sid, owner, createdAt, lastAccessedAt, idleTimeoutMs, absoluteExpiresAt },
            ...(isPersistent && { persistent: true }),
            attributes,
          });
        }
        throw noSession();
      }
      case 'DELETE': {
        if (!mayEnd) {
          const message = 'this upstream may not end sessions; set "controlsSession: true" if it may';
          throw new HoldfastError('ERR_API_FORBIDDEN', message, { status: 403 });
        }
        for (const { manager } of contexts) if (await manager.end(sid, 'logout')) return { status: 204 };
        throw noSession();
      }
      default:
        throw badMethod('GET, DELETE');
    }
  }

  async #attribute(request: ApiRequest, sid: string, name: string): Promise<ApiAnswer> {
    switch (request.method) {
      case 'GET':
        return this.#access(sid, async scope => {
          const text = jsonOf(await existing(scope, name));
          if (text === undefined) throw badRequest(406, 'the attribute holds a value that JSON has no form for');
          const etag = etagOf(text);
          if (lists(headerOf(request, 'if-none-match'), etag)) return { status: 304, headers: { ETag: etag } };
          return { status: 200, headers: { ETag: etag }, json: text };
        });
      case 'PUT': {
        const value = parseJson(await readJsonText(request));
        const text = jsonOf(value);
        if (text === undefined)
          throw badRequest(400, `the body has a number too large, or is nested deeper than ${MAX_DEPTH}`);
        const etag = etagOf(text);
        return this.#access(sid, async (scope, session) => {
          const before = await this.#change(scope, session, name, request, value);
          return { status: before ? 204 : 201, headers: { ETag: etag } };
        });
      }
      case 'DELETE':
        return this.#access(sid, async (scope, session) => {
          const before = await this.#change(scope, session, name, request, undefined);
          if (!before) throw noAttribute();
          return { status: 204 };
        });
      default:
        throw badMethod('GET, PUT, DELETE');
    }
  }

  /** Sets or (`undefined`) deletes. Resolves when it is in the store, with whether there was a value before. */
  async #change(
    scope: SessionScope,
    session: Session,
    name: string,
    request: ApiRequest,
    value: unknown,
  ): Promise<boolean> {
    const ifMatch = headerOf(request, 'if-match');
    const ifNoneMatch = headerOf(request, 'if-none-match');
    if (ifMatch === undefined && ifNoneMatch === undefined) {
      const before = scope.has(name);
      if (value === undefined) scope.delete(name);
      else scope.set(name, value);
      await session.sync();
      return before;
    }
    let before = false;
    // Compare-and-swap in the store: whoever writes in between is seen, and the condition judged again.
    await scope.update(name, current => {
      before = current !== undefined;
      // What has no JSON has a tag that nobody is told.
      const etag = before ? etagOf(jsonOf(current) ?? '') : undefined;
      const isMet =
        (ifMatch === undefined || lists(ifMatch, etag)) && (ifNoneMatch === undefined || !lists(ifNoneMatch, etag));
      if (!isMet)
        throw new HoldfastError('ERR_API_PRECONDITION_FAILED', 'the attribute has another value', { status: 412 });
      return value;
    });
    return before;
  }

  async #access(
    sid: string,
    work: (scope: SessionScope, session: Session) => ApiAnswer | Promise<ApiAnswer>,
  ): Promise<ApiAnswer> {
    for (const { manager } of this.#options.contexts) {
      try {
        return await manager.access(sid, session => work(session.scope(this.#options.scope as never), session));
      } catch (error) {
        // Also one that has ended meanwhile.
        if (!isHoldfastError(error) || error.code !== 'ERR_SESSION_ENDED') throw error;
      }
    }
    throw noSession();
  }
}

function ok(value: object): ApiAnswer {
  return { status: 200, json: JSON.stringify(value) };
}

/** The JSON of a value; undefined when it only would look like it: a Map would become `{}`. */
function jsonOf(value: unknown): string | undefined {
  return isJson(value, 0) ? JSON.stringify(value) : undefined;
}

function isJson(value: unknown, depth: number): boolean {
  if (depth > MAX_DEPTH) return false;
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return true;
    case 'number':
      return Number.isFinite(value);
    case 'object': {
      if (value === null) return true;
      // Holes, which `every` leaves out, become undefined.
      if (Array.isArray(value)) return Array.from(value).every(one => isJson(one, depth + 1));
      const prototype: unknown = Object.getPrototypeOf(value);
      const isPlain = prototype === Object.prototype || prototype === null;
      return isPlain && Object.values(value).every(one => isJson(one, depth + 1));
    }
    default:
      return false;
  }
}

async function existing(scope: SessionScope, name: string): Promise<unknown> {
  const value: unknown = await scope.load(name as never);
  if (value === undefined) throw noAttribute();
  return value;
}

/**
 * Of the value, so that the same value is the same everywhere, whoever has set it and however often. RFC 9110 §8.8.3.
 */
function etagOf(json: string): string {
  return `"${hash('sha256', json, 'base64url').slice(0, 22)}"`;
}

/** RFC 9110 §13.1.1, §13.1.2: `*` is any value that exists. Weak tags are never ours. */
function lists(header: string | undefined, etag: string | undefined): boolean {
  if (header === undefined || etag === undefined) return false;
  return header.trim() === '*' || header.split(',').some(one => one.trim() === etag);
}

function headerOf({ headers }: ApiRequest, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'string' ? value : value?.join(', ');
}

async function readJsonText(request: ApiRequest): Promise<string> {
  const type = headerOf(request, 'content-type') ?? '';
  if (!/^application\/json *(;|$)/i.test(type.trim())) throw badRequest(415, 'send "Content-Type: application/json"');
  return request.readBody();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw badRequest(400, 'the body is no JSON');
  }
}

function badRequest(status: number, message: string): HoldfastError {
  return new HoldfastError('ERR_API_BAD_REQUEST', message, { status });
}

function badMethod(allowed: string): HoldfastError {
  return badRequest(405, `the methods here are ${allowed}`);
}

function notFound(message: string): HoldfastError {
  return new HoldfastError('ERR_API_NOT_FOUND', message, { status: 404 });
}

function noSession(): HoldfastError {
  return notFound('there is no such session (any more)');
}

function noAttribute(): HoldfastError {
  return notFound('the session has no such attribute');
}
