import { parseSetCookie } from '../../http/set-cookie.ts';
import type { FindingCode } from './findings.ts';
import { shown } from './shown.ts';
import type { Target } from './target.ts';

/** A session cookie that a server sets. Its value is for comparing, and must not be shown. */
export interface SessionCookie {
  readonly name: string;
  readonly value: string;
  /** The attributes as they came, without the value: `Path=/; HttpOnly`. */
  readonly attributes: readonly string[];
  readonly path: string;
  readonly domain: string;
}

/** JSESSIONID, SESSIONID, connect.sid, PHPSESSID, sid, ASP.NET_SessionId, auth_token ... */
const NAME = /sess|(?:^|[._-])sid(?:$|[._-])|sid$|auth(?!or)|token/i;
/** These are for scripts to read. */
const FORGERY = /csrf|xsrf/i;

/** The first session cookie that is set, judged by its name. */
export function sessionCookieOf(setCookies: readonly string[], now: number): SessionCookie | undefined {
  for (const line of setCookies) {
    const cookie = parseSetCookie(line, now);
    if (cookie === undefined || cookie.isExpired || !isSession(cookie.name)) continue;
    const attributes = line
      .split(';')
      .slice(1, 20)
      .map(attribute => attribute.trim());
    return { ...cookie, attributes: attributes.filter(attribute => attribute !== '') };
  }
  return undefined;
}

function isSession(name: string): boolean {
  return NAME.test(name) && !FORGERY.test(name);
}

/** For people: name and attributes. */
export function shownCookie({ name, attributes }: SessionCookie): string {
  return shown([name, ...attributes].join('; '));
}

/** What browsers will make of it, the worst first. */
export function cookieFaults(cookie: SessionCookie, target: Target): FindingCode[] {
  const { value, domain, path } = cookie;
  const has = (attribute: string) => cookie.attributes.some(one => one.toLowerCase() === attribute);
  const faults: readonly (readonly [boolean, FindingCode])[] = [
    [/^(?:\(null\)|null|undefined|)$/i.test(value), 'cookie-null'],
    [domain !== '' && !isWithin(target.hostname.toLowerCase(), domain), 'cookie-domain'],
    [has('secure') && !target.isSecure, 'cookie-secure-on-http'],
    [has('samesite=none') && !has('secure'), 'cookie-samesite-none'],
    [path.startsWith('/') && !covers(path, target.path.replace(/\?.*/s, '')), 'cookie-path'],
    [target.isSecure && !has('secure') && !has('samesite=none'), 'cookie-without-secure'],
    [!has('httponly'), 'cookie-without-httponly'],
  ];
  return faults.filter(([isFault]) => isFault).map(([, code]) => code);
}

/** RFC 6265 §5.1.3. */
function isWithin(hostname: string, domain: string): boolean {
  return hostname === domain || hostname.endsWith(`.${domain}`);
}

/** RFC 6265 §5.1.4. */
function covers(cookiePath: string, path: string): boolean {
  return path === cookiePath || path.startsWith(cookiePath.endsWith('/') ? cookiePath : `${cookiePath}/`);
}
