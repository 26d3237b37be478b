import { parseCookies } from '../../../http/cookies.ts';
import type { Chart } from '../chart.ts';
import { type Answer, isBroken } from '../exchange.ts';
import { cookieFaults, type SessionCookie, sessionCookieOf, shownCookie } from '../session-cookie.ts';
import type { Visit } from '../visit.ts';

/** Servers that keep a session in its cookie give a new one with each answer, and lose nothing by it. */
const LONGEST_ID = 120;
/** Of two servers that take turns, one knows it. */
const TRIES = 2;

/** The session cookie that the server sets, and whether it knows it when it comes back. */
export async function cookieStep(chart: Chart, visit: Visit, answers: readonly Answer[]): Promise<void> {
  const now = Date.now();
  const cookie = sessionCookieOf(
    answers.flatMap(({ setCookies }) => setCookies),
    now,
  );
  if (visit.options.cookie !== undefined) return givenCookie(chart, visit.options.cookie, cookie);
  if (cookie === undefined) return chart.note('cookie', 'note', 'no session cookie is set here');
  const faults = cookieFaults(cookie, visit.target);
  for (const fault of faults)
    chart.report('cookie', fault === 'cookie-null' ? 'fail' : 'warn', fault, `set: ${shownCookie(cookie)}`);
  if (faults.includes('cookie-null')) return;
  if (await isForgotten(visit, cookie, now))
    chart.report(
      'cookie',
      'fail',
      'session-not-kept',
      `${cookie.name} is new with each request, also when it is shown`,
    );
  else if (faults.length === 0)
    chart.note('cookie', 'ok', `set: ${shownCookie(cookie)}; it is known when it comes back`);
}

function givenCookie(chart: Chart, given: string, set: SessionCookie | undefined): void {
  const known = set && parseCookies(given).find(({ name }) => name === set.name)?.value;
  if (set === undefined || known === undefined || known === set.value)
    return chart.note('cookie', 'ok', 'the cookie that was given is not replaced');
  chart.report('cookie', 'fail', 'session-unknown', `${set.name} was given, and is answered with a new one`);
}

async function isForgotten(visit: Visit, { name, value }: SessionCookie, now: number): Promise<boolean> {
  if (value.length > LONGEST_ID) return false;
  for (let i = 0; i < TRIES; i++) {
    const again = await visit.get(`${name}=${value}`);
    if ('finding' in again || isBroken(again)) return false;
    const next = sessionCookieOf(again.setCookies, now);
    if (next?.name === name && next.value !== value) return true;
  }
  return false;
}
