import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { Logger } from '../../base/logger.ts';
import { kindOf } from '../../base/options.ts';
import { isOriginOf, parseOrigin } from '../../http/origin.ts';

/** What was asked, whatever carries it. */
export interface Asked {
  readonly method: string;
  /** As the client knows it, without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly accept: string | undefined;
  /** What the framework has given: under it the request has its session. */
  readonly carrier: object;
  /** The same in the web's form, without a body. */
  readonly request: Request;
  /** A page of the same origin has sent it. */
  readonly isOfOwnPage: boolean;
  form(): Promise<Form | 'too large' | 'none'>;
}

type Form = Pick<FormData, 'get'>;

export interface InspectorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The context of Hono, without a dependency on it. */
export interface HonoContext {
  readonly req: { readonly raw: Request; parseBody(): Promise<Record<string, unknown>>; text(): Promise<string> };
}

/** Fastify's request and reply, without a dependency on it. */
export interface FastifyRequest {
  readonly raw: IncomingMessage;
  readonly body?: unknown;
}

export interface FastifyReply {
  readonly raw: ServerResponse;
  code(status: number): unknown;
  headers(values: Record<string, string>): unknown;
  send(body: string): unknown;
}

/**
 * A handler that takes a request as node:http, Express, Fastify and Hono give it, or as the web has it.
 *
 * Of node:http and Express: what fails goes to `next`, or is answered, and never rejects. Mounted by `app.use`, it
 * answers the path itself and leaves those below it to others.
 */
export interface Inspector {
  /** Fetch handlers of a route, and whatever else has the web's form. */
  (request: Request): Promise<Response>;
  /** Fastify: `app.all('/sessions', inspect)`. */
  (request: FastifyRequest, reply: FastifyReply): Promise<unknown>;
  /** node:http and Express: `app.use('/sessions', inspect)`. */
  (req: IncomingMessage, res: ServerResponse, next?: (error?: unknown) => void): Promise<void>;
  /** Hono: `app.all('/sessions', inspect)`. The last, because Hono learns its types from that. */
  (context: HonoContext): Promise<Response>;
}

/** A sid is all that is in it. */
const MAX_FORM_BYTES = 16 * 1024;

/** What Express adds to a request, some of it by middleware. */
interface ExpressParts {
  readonly baseUrl?: unknown;
  readonly originalUrl?: unknown;
  /** Of `app.all(path, …)`; `app.use` has none. */
  readonly route?: unknown;
  readonly body?: unknown;
}

/** @param logger For what fails where no framework learns of it. None: nothing is there yet. */
export function inspectorOf(
  ask: (asked: Asked) => Promise<InspectorAnswer>,
  logger: () => Logger | undefined,
): Inspector {
  const toResponse = async (asked: Asked) => {
    const { status, headers, body } = await ask(asked);
    return new Response(body === '' || asked.method === 'HEAD' ? null : body, { status, headers });
  };
  const inspect = async (first: object, second?: unknown, next?: (error?: unknown) => void): Promise<unknown> => {
    if (isWebRequest(first)) return toResponse(askedByWeb(first, first, () => formOfWeb(first)));
    if (isHonoContext(first)) return toResponse(askedByWeb(first.req.raw, first, () => formOfHono(first)));
    if (isFastifyPair(first, second)) {
      const [request, reply] = [first as FastifyRequest, second as FastifyReply];
      const { status, headers, body } = await ask(askedByNode(request.raw, request, request.body));
      reply.code(status);
      reply.headers({ ...headers });
      return reply.send(body);
    }
    if (isNodePair(first, second))
      return answerNode(ask, logger, first as IncomingMessage, second as ServerResponse, next);
    throw new TypeError(
      `inspector: give it (req, res) of node:http or Express, (request, reply) of Fastify, the context of Hono, or a Request; not ${kindOf(first)}`,
    );
  };
  return inspect as Inspector;
}

async function answerNode(
  ask: (asked: Asked) => Promise<InspectorAnswer>,
  logger: () => Logger | undefined,
  req: IncomingMessage & ExpressParts,
  res: ServerResponse,
  next: ((error?: unknown) => void) | undefined,
): Promise<void> {
  // Mounted there, Express gives it what is below as well.
  if (next && req.baseUrl && !req.route && pathOf(req.url ?? '/') !== '/') return next();
  let answer: InspectorAnswer;
  try {
    answer = await ask(askedByNode(req, req, req.body));
  } catch (error) {
    if (next) return next(error);
    logger()?.error({ err: error }, 'sessions could not be inspected');
    const { status = 500 } = error as { status?: number };
    const [code, message] = [(error as { code?: string }).code ?? '', (error as Error).message];
    // Who sees it may be a stranger.
    const text = code === 'ERR_SESSION_OUTSIDE_REQUEST' ? message : 'Sessions cannot be inspected now.';
    answer = { status, headers: { 'Content-Type': 'text/plain; charset=utf-8' }, body: `${text}\n` };
  }
  const { status, headers, body } = answer;
  res.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body) });
  res.end(req.method === 'HEAD' ? undefined : body);
}

function askedByWeb(request: Request, carrier: object, form: Asked['form']): Asked {
  const { method, headers } = request;
  const url = new URL(request.url);
  const place = { host: url.host, isSecure: url.protocol === 'https:' };
  return {
    ...{ method, carrier, form, request },
    path: url.pathname,
    query: url.searchParams,
    accept: headers.get('accept') ?? undefined,
    isOfOwnPage: isOfOwnPage(headers.get('sec-fetch-site') ?? undefined, headers.get('origin') ?? undefined, place),
  };
}

/** @param parsed What a parser has made of the body, if one has. */
function askedByNode(req: IncomingMessage & ExpressParts, carrier: object, parsed: unknown): Asked {
  const { headers, method = 'GET' } = req;
  const target = typeof req.originalUrl === 'string' ? req.originalUrl : (req.url ?? '/');
  const host = headers.host ?? (headers[':authority'] as string | undefined) ?? '';
  const isSecure = (req.socket as Partial<TLSSocket>).encrypted === true;
  return {
    ...{ method, carrier },
    path: pathOf(target),
    query: new URLSearchParams(target.includes('?') ? target.slice(target.indexOf('?') + 1) : ''),
    accept: headers.accept,
    get request() {
      const path = target.startsWith('/') ? target : '/';
      const lines = Object.entries(headers).filter(([name, value]) => !name.startsWith(':') && value !== undefined);
      return new Request(urlOf(isSecure ? 'https' : 'http', host, path), {
        method,
        headers: lines.flatMap(([name, value]) => [value!].flat().map((one): [string, string] => [name, one])),
      });
    },
    isOfOwnPage: isOfOwnPage(headers['sec-fetch-site'] as string | undefined, headers.origin, { host, isSecure }),
    form: () => formOfNode(req, parsed),
  };
}

/** Whatever the client has sent for the host. */
function urlOf(scheme: string, host: string, path: string): string {
  // A request has no credentials, and the path is that of the request.
  const isHost = host !== '' && !/[@/?#\\]/.test(host);
  const url = `${scheme}://${host}${path}`;
  return isHost && URL.canParse(url) ? url : `${scheme}://localhost${path}`;
}

/**
 * By `Sec-Fetch-Site`, which no page can set, so that it does not matter what a proxy makes of the host; where browsers
 * send none, which is over plain http, the origin must be that of the host.
 */
function isOfOwnPage(
  site: string | undefined,
  origin: string | undefined,
  place: { readonly host: string; readonly isSecure: boolean },
): boolean {
  const parsed = origin === undefined ? undefined : parseOrigin(origin);
  // A proxy in front may end TLS.
  const isOwn = parsed !== undefined && isOriginOf(parsed, { ...place, isSchemeKnown: place.isSecure });
  return site === undefined ? isOwn : site === 'same-origin';
}

/** What middleware may have read already, and what it has made of it. */
function formOfNode(req: IncomingMessage, parsed: unknown): Promise<Form | 'too large' | 'none'> {
  if (parsed instanceof Uint8Array || typeof parsed === 'string')
    return readForm([Buffer.from(parsed as string)], req.headers['content-type']);
  if (typeof parsed === 'object' && parsed !== null) return Promise.resolve(formOfFields(parsed));
  return readForm(req.iterator({ destroyOnReturn: false }), req.headers['content-type']);
}

async function formOfHono({ req }: HonoContext): Promise<Form | 'too large' | 'none'> {
  if (!req.raw.bodyUsed) return formOfWeb(req.raw);
  // Its own readers know what other middleware has read, unless that has read past them.
  if (!isPlain(req.raw.headers.get('content-type') ?? '')) return req.parseBody().then(formOfFields, () => 'none');
  return req.text().then(
    text => readForm([Buffer.from(text)], 'text/plain'),
    () => 'none',
  );
}

async function formOfWeb(request: Request): Promise<Form | 'too large' | 'none'> {
  if (request.bodyUsed || !request.body) return 'none';
  return readForm(request.body, request.headers.get('content-type') ?? undefined);
}

async function readForm(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  type: string | undefined,
): Promise<Form | 'too large' | 'none'> {
  const read: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > MAX_FORM_BYTES) return 'too large';
    read.push(chunk);
  }
  return formIn(Buffer.concat(read), type);
}

async function formIn(body: Buffer<ArrayBuffer>, type = ''): Promise<Form | 'none'> {
  if (isPlain(type)) return formOfLines(body.toString());
  try {
    return await new Response(body, { headers: { 'Content-Type': type } }).formData();
  } catch {
    return 'none';
  }
}

/**
 * A form of the inspector's page: Fastify reads no other kind without a plugin.
 *
 * @see HTML Standard, text/plain form data
 */
function formOfLines(text: string): Form {
  const form = new Map(text.split(/\r?\n/).map(line => [line.split('=', 1)[0]!, line.slice(line.indexOf('=') + 1)]));
  return { get: name => form.get(name) ?? null };
}

function formOfFields(fields: object): Form {
  const entries = new Map(Object.entries(fields));
  return { get: name => (entries.get(name) as string | undefined) ?? null };
}

function isPlain(type: string): boolean {
  return /^text\/plain\b/i.test(type);
}

function pathOf(target: string): string {
  const mark = target.indexOf('?');
  return mark === -1 ? target : target.slice(0, mark);
}

function isWebRequest(value: unknown): value is Request {
  const { headers, url, method } = (value ?? {}) as Partial<Request>;
  return typeof headers?.get === 'function' && typeof url === 'string' && typeof method === 'string';
}

function isHonoContext(value: unknown): value is HonoContext {
  const { req } = (value ?? {}) as Partial<HonoContext>;
  return typeof req?.parseBody === 'function' && isWebRequest(req.raw);
}

function isFastifyPair(first: object, second: unknown): boolean {
  const [request, reply] = [first, second] as [Partial<FastifyRequest> | null, Partial<FastifyReply> | undefined];
  return typeof request?.raw?.headers === 'object' && typeof reply?.raw?.writeHead === 'function';
}

function isNodePair(first: object, second: unknown): boolean {
  return (
    typeof (first as Partial<IncomingMessage> | null)?.headers === 'object' &&
    typeof (second as Partial<ServerResponse> | undefined)?.writeHead === 'function'
  );
}
