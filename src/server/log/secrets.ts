import { SOCKET_TICKET_PREFIX, withoutSocketTickets } from '../../http/query-ticket.ts';
import { withoutTickets } from '../../session/identity/ticket.ts';

const SECRET_NAME = /token|ticket|secret|passw|pwd|key|code|session|sid|auth|sig/i;

/** Also where letters of it are escaped: the application undoes that. */
function isSecretName(name: string): boolean {
  return SECRET_NAME.test(
    name.replaceAll(/%([0-7][\da-f])/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
  );
}

/** Without any of these there is nothing to take: most targets have none. */
const SUSPECT = new RegExp(`[=@]|v1\\.|${SOCKET_TICKET_PREFIX}`);

/**
 * Takes the values of path and query parameters that are likely to open something (`;jsessionid=`), and tickets
 * wherever they are: links end up in queries, too.
 */
export function withoutSecrets(target: string): string {
  if (!SUSPECT.test(target)) return target;
  // RFC 3986 §3.2.1: in a target with a scheme it stands before the host.
  const hidden = withoutSocketTickets(target.replace(/^([a-z][a-z\d+.-]*:\/\/)[^/?#]*@/i, '$1***@'));
  const text = withoutTickets(hidden).replaceAll(/;([^=;/?#&]*)=[^;/?#&]*/g, (parameter, name) =>
    isSecretName(name) ? `;${name}=***` : parameter,
  );
  return /[?#]/.test(text) ? text.replaceAll(/([&#]?)([^&#]+)/g, withoutSecret) : text;
}

/** One look at each character: the longest URL that there can be must cost nothing, whatever it repeats. */
function withoutSecret(whole: string, separator: string, part: string): string {
  let start = separator === '' ? part.indexOf('?') : 0;
  while (start !== -1) {
    const equals = part.indexOf('=', start);
    if (equals === -1) return whole;
    if (isSecretName(part.slice(start, equals))) return `${separator}${part.slice(0, equals + 1)}***`;
    start = part.indexOf('?', equals); // a URL as a value may have parameters of its own
  }
  return whole;
}
