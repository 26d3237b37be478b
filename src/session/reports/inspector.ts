import type { Logger } from '../../base/logger.ts';
import { checkOptions, type OptionNames } from '../../base/options.ts';
import { preferredMediaType } from '../../http/media.ts';
import type { Session, SessionEndReason } from '../session.ts';
import type { SessionInfo } from '../session-info.ts';
import type { SessionMinute } from './history.ts';
import { type Inspection, inspectionPage } from './inspection-page.ts';
import { type Asked, type Inspector, type InspectorAnswer, inspectorOf } from './inspector-carriers.ts';
import type { SessionStatistics } from './statistics.ts';
import type { StatisticsOfAll } from './statistics-of-all.ts';

// biome-ignore lint/suspicious/noExplicitAny: what it is follows from the framework
type Carrier = any;

export interface InspectorOptions {
  /**
   * Who may look and end sessions: by the request in the web's form, and by what the framework has given (`req` of
   * node:http and Express, `request` of Fastify, `c` of Hono). Default: who is signed in with the role `admin`.
   */
  readonly allow?: (request: Request, carrier: Carrier) => boolean | Promise<boolean>;
  /** Sessions on one page. Default 100. */
  readonly pageSize?: number;
}

const INSPECTOR_OPTIONS: OptionNames<InspectorOptions> = { allow: 'function', pageSize: 'number' };

const HEADERS = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy':
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  // By `no-referrer` browsers would send its own forms with an `Origin: null`.
  'Referrer-Policy': 'same-origin',
  'X-Content-Type-Options': 'nosniff',
};

/** What it needs of the session manager. */
interface Sessions {
  get(carrier: object): Promise<Session | undefined>;
  statistics(): SessionStatistics;
  history(): SessionMinute[];
  statisticsOfAll(): Promise<StatisticsOfAll>;
  list(): AsyncIterable<SessionInfo>;
  ofUser(name: string): Promise<SessionInfo[]>;
  info(sid: string): Promise<SessionInfo | undefined>;
  count(): Promise<number>;
  end(sid: string, reason: SessionEndReason): Promise<boolean>;
}

/**
 * The session tracker as a handler: counters, who has sessions, what they hold by name and size, and a way to end one.
 *
 * `GET` answers HTML or JSON by `Accept`; `?user=NAME` shows one user's sessions, `?sid=SID` one session. `POST` with
 * `sid` in a form ends it, from pages of the same origin only. No value, cookie or secret is ever shown.
 *
 * @see IBM WebSphere, IBMTrackerDebug
 */
export function createInspector(
  sessions: Sessions,
  logger: () => Logger | undefined,
  options: InspectorOptions = {},
): Inspector {
  checkOptions('inspector', options, INSPECTOR_OPTIONS);
  const { allow = (_request, carrier) => isAdmin(sessions, carrier), pageSize = 100 } = options;
  return inspectorOf(async asked => {
    const { method } = asked;
    if (!['GET', 'HEAD', 'POST'].includes(method)) return plain(405, 'GET and POST only.', { Allow: 'GET, POST' });
    if (!(await allow(asked.request, asked.carrier))) return plain(403, 'Not for you.');
    if (method === 'POST') return end(sessions, asked);
    const inspection = await inspect(sessions, asked.query, pageSize);
    const isHtml = preferredMediaType(asked.accept) === 'text/html';
    return isHtml
      ? answer(200, 'text/html; charset=utf-8', inspectionPage(inspection))
      : answer(200, 'application/json', JSON.stringify(inspection));
  }, logger);
}

async function isAdmin(sessions: Sessions, carrier: object): Promise<boolean> {
  const session = await sessions.get(carrier);
  return session?.owner?.roles.includes('admin') ?? false;
}

async function inspect(sessions: Sessions, query: URLSearchParams, pageSize: number): Promise<Inspection> {
  const [all, count] = await Promise.all([sessions.statisticsOfAll(), sessions.count()]);
  const facts = { statistics: sessions.statistics(), history: sessions.history(), all, count };
  const [sid, user] = [query.get('sid'), query.get('user')];
  if (sid) {
    const info = await sessions.info(sid);
    return { ...facts, sessions: info ? [info] : [], isPartial: false };
  }
  const found = user ? await sessions.ofUser(user) : sessions.list();
  const shown: SessionInfo[] = [];
  for await (const info of found) {
    if (shown.length === pageSize) return { ...facts, sessions: shown, isPartial: true };
    shown.push(info);
  }
  return { ...facts, sessions: shown, isPartial: false };
}

async function end(sessions: Sessions, asked: Asked): Promise<InspectorAnswer> {
  // A page of another site could send this form with the administrator's cookie.
  if (!asked.isOfOwnPage) return plain(403, 'Not from this site.');
  const form = await asked.form();
  if (form === 'too large') return plain(413, 'The form is too large.');
  if (form === 'none') return plain(400, 'A form is expected.');
  const sid = form.get('sid');
  if (typeof sid !== 'string' || sid === '') return plain(400, 'The form has no sid.');
  await sessions.end(sid, 'admin');
  return { status: 303, headers: { ...HEADERS, Location: asked.path }, body: '' };
}

function answer(status: number, contentType: string, body: string): InspectorAnswer {
  return { status, headers: { ...HEADERS, 'Content-Type': contentType }, body };
}

function plain(status: number, text: string, headers: Record<string, string> = {}): InspectorAnswer {
  const { headers: own, body } = answer(status, 'text/plain; charset=utf-8', `${text}\n`);
  return { status, headers: { ...own, ...headers }, body };
}
