import { checkOptions, type OptionNames } from '../../base/options.ts';
import { preferredMediaType } from '../../http/media.ts';
import type { Session, SessionEndReason } from '../session.ts';
import type { SessionInfo } from '../session-info.ts';
import type { SessionStatistics } from './statistics.ts';

export interface InspectorOptions {
  /** Who may look and end sessions. Default: who is signed in with the role `admin`. */
  readonly allow?: (request: Request) => boolean | Promise<boolean>;
  /** Sessions on one page. Default 100. */
  readonly pageSize?: number;
}

const INSPECTOR_OPTIONS: OptionNames<InspectorOptions> = { allow: 'function', pageSize: 'number' };

/** What the inspector answers a program that asks for JSON. */
export interface Inspection {
  readonly statistics: SessionStatistics;
  readonly count: number;
  readonly sessions: readonly SessionInfo[];
  /** There are more than are shown. */
  readonly isPartial: boolean;
}

const HEADERS = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy':
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

/** What it needs of the session manager. */
interface Sessions {
  get(carrier: object): Promise<Session | undefined>;
  statistics(): SessionStatistics;
  list(): AsyncIterable<SessionInfo>;
  ofUser(name: string): Promise<SessionInfo[]>;
  info(sid: string): Promise<SessionInfo | undefined>;
  count(): Promise<number>;
  end(sid: string, reason: SessionEndReason): Promise<boolean>;
}

/**
 * The session tracker as a web-standard handler: counters, who has sessions, what they hold by name and size, and a way
 * to end one.
 *
 * `GET` answers HTML or JSON by `Accept`; `?user=NAME` shows one user's sessions, `?sid=SID` one session. `POST` with
 * `sid` in a form ends it, from pages of the same origin only. No value, cookie or secret is ever shown.
 *
 * @see IBM WebSphere, IBMTrackerDebug
 */
export function createInspector(
  sessions: Sessions,
  options: InspectorOptions = {},
): (request: Request) => Promise<Response> {
  checkOptions('inspector', options, INSPECTOR_OPTIONS);
  const { allow = request => isAdmin(sessions, request), pageSize = 100 } = options;
  return async request => {
    if (!(await allow(request))) return plain(403, 'Not for you.');
    if (request.method === 'POST') return end(sessions, request);
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return plain(405, 'GET and POST only.', { Allow: 'GET, POST' });
    const inspection = await inspect(sessions, new URL(request.url).searchParams, pageSize);
    if (preferredMediaType(request.headers.get('accept') ?? undefined) === 'text/html')
      return new Response(toHtml(inspection), { headers: { ...HEADERS, 'Content-Type': 'text/html; charset=utf-8' } });
    return Response.json(inspection, { headers: HEADERS });
  };
}

async function isAdmin(sessions: Sessions, request: Request): Promise<boolean> {
  const session = await sessions.get(request);
  return session?.owner?.roles.includes('admin') ?? false;
}

async function inspect(sessions: Sessions, query: URLSearchParams, pageSize: number): Promise<Inspection> {
  const facts = { statistics: sessions.statistics(), count: await sessions.count() };
  const [sid, user] = [query.get('sid'), query.get('user')];
  if (sid) {
    const info = await sessions.info(sid);
    return { ...facts, sessions: info ? [info] : [], isPartial: false };
  }
  const all = user ? await sessions.ofUser(user) : sessions.list();
  const shown: SessionInfo[] = [];
  for await (const info of all) {
    if (shown.length === pageSize) return { ...facts, sessions: shown, isPartial: true };
    shown.push(info);
  }
  return { ...facts, sessions: shown, isPartial: false };
}

async function end(sessions: Sessions, request: Request): Promise<Response> {
  // A page of another site could send this form with the administrator's cookie.
  if (request.headers.get('origin') !== new URL(request.url).origin) return plain(403, 'Not from this site.');
  let sid: unknown;
  try {
    sid = (await request.formData()).get('sid');
  } catch {
    return plain(400, 'A form is expected.');
  }
  if (typeof sid !== 'string') return plain(400, 'The form has no sid.');
  await sessions.end(sid, 'admin');
  return new Response(null, { status: 303, headers: { ...HEADERS, Location: new URL(request.url).pathname } });
}

function plain(status: number, text: string, headers: Record<string, string> = {}): Response {
  return new Response(`${text}\n`, {
    status,
    headers: { ...HEADERS, 'Content-Type': 'text/plain; charset=utf-8', ...headers },
  });
}

function toHtml({ statistics, count, sessions, isPartial }: Inspection): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Sessions</title>
<style>
  body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; }
  table { border-collapse: collapse; margin-block: 1rem; }
  th, td { text-align: left; vertical-align: top; padding: .25rem .75rem; border-bottom: 1px solid #8884; }
  td.number { text-align: right; font-variant-numeric: tabular-nums; }
</style>
<h1>Sessions</h1>
<form><label>User <input name="user"></label> <button>Show</button> <a href="?">All</a></form>
<p>${count} in the store${isPartial ? `, the first ${sessions.length} of them here` : ''}.</p>
<table>
<tr><th>Session<th>Owner<th>Created<th>Last access<th>Ends at the latest<th>Attributes<th>
${sessions.map(toRow).join('\n')}
</table>
<h2>This process</h2>
<table>
${counters(statistics)
  .map(([name, value]) => `<tr><th>${toText(name)}<td class="number">${toText(value)}`)
  .join('\n')}
</table>
</html>
`;
}

function toRow(info: SessionInfo): string {
  const cells = [
    `${toText(info.sid.slice(0, 8))}…${info.isLive ? ' (live)' : ''}`,
    toText(info.owner ? `${info.owner.name} (${info.owner.roles.join(', ') || 'no roles'})` : ''),
    time(info.createdAt),
    time(info.lastAccessedAt),
    `${info.absoluteExpiresAt === undefined ? 'never' : time(info.absoluteExpiresAt)}${info.isPersistent ? ' (persistent cookie)' : ''}`,
    info.attributes.map(({ name, bytes }) => `${toText(name)}: ${bytes} bytes`).join('<br>'),
    `<form method="post"><input type="hidden" name="sid" value="${toText(info.sid)}"><button>End</button></form>`,
  ];
  return `<tr><td>${cells.join('<td>')}`;
}

/** `reads.count` and so on, one line for each number. */
function counters(value: object, prefix = ''): [string, string][] {
  return Object.entries(value).flatMap(([name, entry]): [string, string][] => {
    const path = prefix === '' ? name : `${prefix}.${name}`;
    if (typeof entry === 'object' && entry !== null) return counters(entry, path);
    const isFraction = typeof entry === 'number' && !Number.isInteger(entry);
    return [[path, isFraction ? entry.toFixed(2) : String(entry)]];
  });
}

function time(ms: number): string {
  if (Number.isNaN(new Date(ms).getTime())) return 'never'; // no calendar goes so far
  return new Date(ms).toISOString().replace('T', ' ').slice(0, 19);
}

function toText(text: string): string {
  return text.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`);
}
