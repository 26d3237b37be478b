import type * as z from 'zod';
import { HoldfastError } from '../base/errors.ts';
import { nearestName } from '../base/nearest-name.ts';
import type { Administered, StreamKind, StreamQuery } from './administered.ts';
import { openApiDocument } from './openapi.ts';
import { type AdminRoute, adminRoutes } from './routes.ts';

/** A request to the admin API, by whichever way it came. */
export interface AdminRequest {
  readonly method: string;
  /** Path and query, as on the request line. */
  readonly target: string;
  /** Has it shown that it may do anything? Without, only probes are answered. */
  readonly isTrusted: boolean;
  readBody(): Promise<string>;
}

export type AdminAnswer =
  | { readonly kind: 'text'; readonly status: number; readonly contentType: string; readonly body: string }
  /** Lines as they happen. */
  | { readonly kind: 'lines'; readonly stream: StreamKind; readonly query: StreamQuery };

interface Place {
  readonly route: AdminRoute;
  readonly segments: readonly string[];
}

const PLACES: readonly Place[] = adminRoutes.map(route => ({ route, segments: route.path.slice(1).split('/') }));
/** It describes the others, and is none of them. */
const DOCUMENT_PATH = 'openapi.json';
let document: string | undefined;

/**
 * Answers one request.
 *
 * @throws {HoldfastError} ERR_ADMIN_… with a status for what is wrong with the request; what `administered` throws.
 */
export async function answerAdmin(administered: Administered, request: AdminRequest): Promise<AdminAnswer> {
  const [path = '', search = ''] = splitTarget(request.target);
  const segments = segmentsOf(path);
  const { route, params } = find(segments, request.method, request.isTrusted);
  if (route === 'document') return json(200, (document ??= JSON.stringify(openApiDocument())));
  const query = checked(route.query, queryOf(search, route.query), 'query');
  switch (route.kind) {
    case 'text':
      return { kind: 'text', status: 200, ...(await route.run(administered)) };
    case 'lines':
      return { kind: 'lines', stream: route.stream, query: (query ?? {}) as StreamQuery };
    case 'json': {
      const body = route.body && checked(route.body, bodyOf(await request.readBody()), 'body');
      const answer = await route.run(administered, { params, query, body });
      return json(route.statusOf?.(answer) ?? 200, JSON.stringify(answer));
    }
  }
}

function json(status: number, body: string): AdminAnswer {
  return { kind: 'text', status, contentType: 'application/json', body };
}

function splitTarget(target: string): readonly string[] {
  const mark = target.indexOf('?');
  return mark === -1 ? [target] : [target.slice(0, mark), target.slice(mark + 1)];
}

function segmentsOf(path: string): string[] {
  try {
    return path.slice(1).split('/').map(decodeURIComponent);
  } catch {
    throw badRequest('the path has an invalid escape');
  }
}

interface Found {
  readonly route: AdminRoute | 'document';
  readonly params: Readonly<Record<string, string>>;
}

/** Who may do nothing learns of no path whether it is there. */
function find(segments: readonly string[], method: string, isTrusted: boolean): Found {
  const wanted = method === 'HEAD' ? 'GET' : method;
  const isDocument = segments.length === 1 && segments[0] === DOCUMENT_PATH;
  const there = PLACES.filter(place => fits(place, segments));
  const place = there.find(({ route }) => route.method === wanted);
  if (!isTrusted && !place?.route.isOpen) throw unauthorized();
  if (isDocument && wanted === 'GET') return { route: 'document', params: {} };
  if (place) return { route: place.route, params: paramsOf(place, segments) };
  if (there.length === 0 && !isDocument) throw notFound('there is nothing at this path; see /openapi.json');
  const methods = isDocument ? ['GET'] : there.map(({ route }) => route.method);
  throw new HoldfastError('ERR_ADMIN_BAD_REQUEST', `the methods here are ${methods.join(', ')}`, { status: 405 });
}

function fits({ segments }: Place, given: readonly string[]): boolean {
  return (
    segments.length === given.length &&
    segments.every((segment, i) => (segment.startsWith('{') ? given[i] !== '' : segment === given[i]))
  );
}

function paramsOf({ segments }: Place, given: readonly string[]): Record<string, string> {
  const named = segments.flatMap((segment, i) => (segment.startsWith('{') ? [[segment.slice(1, -1), given[i]!]] : []));
  return Object.fromEntries(named);
}

function queryOf(search: string, schema: z.ZodType | undefined): Record<string, string> {
  const given = new URLSearchParams(search);
  const query: Record<string, string> = Object.create(null);
  for (const [name, value] of given) {
    if (schema === undefined) throw badRequest(`query: nothing is taken here; remove "${shown(name)}"`);
    if (name in query) throw badRequest(`query: "${shown(name)}" stands there twice`);
    query[name] = value;
  }
  return query;
}

function bodyOf(text: string): unknown {
  if (text.trim() === '') return {};
  try {
    return JSON.parse(text);
  } catch {
    throw badRequest('body: not JSON; send an object, with Content-Type: application/json');
  }
}

function checked(schema: z.ZodType | undefined, value: unknown, where: 'query' | 'body'): unknown {
  if (!schema) return undefined;
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const names = namesOf(schema);
  const problems = result.error.issues.slice(0, 10).map(issue => problemOf(issue, names));
  throw badRequest(`${where}: ${problems.join('; ')}`);
}

function problemOf(issue: z.core.$ZodIssue, names: readonly string[]): string {
  if (issue.code !== 'unrecognized_keys')
    return issue.path.length === 0 ? issue.message : `"${issue.path.join('.')}": ${issue.message}`;
  const [unknown = ''] = issue.keys;
  const near = nearestName(unknown, names);
  return `"${shown(unknown)}" is not known here; ${near === undefined ? `there are ${names.join(', ')}` : `did you mean "${near}"?`}`;
}

function namesOf(schema: z.ZodType): string[] {
  return Object.keys((schema as Partial<z.ZodObject>).shape ?? {});
}

/** What comes from outside and is said again. */
function shown(text: string): string {
  return text.slice(0, 40).replaceAll(/[^\w.-]/g, '?');
}

function badRequest(message: string): HoldfastError {
  return new HoldfastError('ERR_ADMIN_BAD_REQUEST', message, { status: 400 });
}

function notFound(message: string): HoldfastError {
  return new HoldfastError('ERR_ADMIN_NOT_FOUND', message, { status: 404 });
}

function unauthorized(): HoldfastError {
  const message = 'send "Authorization: Bearer" and the token of the admin API';
  return new HoldfastError('ERR_ADMIN_UNAUTHORIZED', message, { status: 401 });
}
