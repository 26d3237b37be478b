import type { Answer } from './exchange.ts';
import type { FindingCode } from './findings.ts';
import { shownLocation } from './shown.ts';

/** What is known of a handshake that was answered with another status than 101. */
export interface RefusedHandshake {
  readonly answer: Pick<Answer, 'head' | 'headers' | 'body'>;
  /** Of the plain request for the same place, with the same cookie; undefined when it had no answer. */
  readonly plainStatus: number | undefined;
  /** The same handshake without `Origin` is taken. */
  readonly isTakenWithoutOrigin: boolean;
  /** A cookie or credentials were given. */
  readonly hasCredentials: boolean;
}

/** How Apache and nginx answer a plain request on a port with TLS. */
const PLAIN_ON_TLS = /speaking plain HTTP to an SSL|plain HTTP request was sent to HTTPS/;
/** Apache gives 500 also for a backend that it cannot agree with on TLS. */
const OF_APACHE_BACKEND = /Error during SSL Handshake with remote server/;
const OF_APACHE = /<address>Apache|The server encountered an internal error or\s+misconfiguration/;

const OF_STATUS: Readonly<Record<number, FindingCode>> = {
  404: 'path-unknown',
  407: 'credentials-required',
  408: 'no-answer',
  421: 'host-unknown',
  429: 'too-many',
  500: 'server-error',
  502: 'backend-broken',
  503: 'backend-unavailable',
  504: 'backend-slow',
};

/** Which of the usual mistakes it is. */
export function findingOfRefusal(refused: RefusedHandshake): { finding: FindingCode; text: string } {
  const { answer } = refused;
  const { status } = answer.head;
  const location = status >= 300 && status < 400 ? answer.headers.location : undefined;
  const answered = `answered with ${status} instead of 101`;
  if (PLAIN_ON_TLS.test(answer.body)) return { finding: 'tls-expected', text: `${answered}: it wants TLS` };
  if (location !== undefined)
    return { finding: 'redirected', text: `${answered}: redirected to ${shownLocation(location)}` };
  if (/Transport unknown|"code":0,"message"/.test(answer.body))
    return { finding: 'refused', text: `${answered}: it is socket.io; add ?EIO=4&transport=websocket` };
  return { finding: ofStatus(refused, status), text: answered };
}

function ofStatus(refused: RefusedHandshake, status: number): FindingCode {
  if (status === 401 || status === 403) return ofDenied(refused, status);
  const { answer, plainStatus } = refused;
  if (status === 500 && OF_APACHE_BACKEND.test(answer.body)) return 'backend-broken';
  if (status === 500 && OF_APACHE.test(answer.body)) return 'module-missing';
  const known = OF_STATUS[status] ?? (status >= 500 && status !== 501 ? 'server-error' : undefined);
  if (known !== undefined) return known;
  const versions = answer.headers['sec-websocket-version'];
  if (versions !== undefined && !/\b13\b/.test(versions)) return 'version-refused';
  // What is answered as a plain request is, was taken for one.
  const speaksOfUpgrade = status === 426 || /upgrade|websocket/i.test(answer.body);
  return status < 400 || speaksOfUpgrade || status === plainStatus ? 'upgrade-lost' : 'refused';
}

function ofDenied(refused: RefusedHandshake, status: number): FindingCode {
  const { plainStatus = 0, isTakenWithoutOrigin, hasCredentials } = refused;
  if (isTakenWithoutOrigin) return 'origin-refused';
  if (hasCredentials && plainStatus >= 200 && plainStatus < 300) return 'session-not-handed-on';
  return status === 401 ? 'credentials-required' : 'forbidden';
}
