import type { Chart } from '../chart.ts';
import { dialTls, type Fault, tlsFault } from '../dial.ts';
import { type Answer, type Broken, isBroken } from '../exchange.ts';
import type { FindingCode } from '../findings.ts';
import { findingOfRefusal } from '../refusal.ts';
import { shown, shownEnding, shownLocation, shownTime } from '../shown.ts';
import type { Handshake, Visit } from '../visit.ts';

/** How long a WebSocket that opened is watched for a server that thinks better of it. */
const AT_ONCE_MS = 400;

/** A plain request for the same place. Nothing is wrong with any answer: the path may know WebSockets only. */
export async function httpStep(chart: Chart, visit: Visit): Promise<Answer | undefined> {
  const answer = await visit.get();
  if ('finding' in answer || isBroken(answer)) {
    chart.note('http', 'note', `a plain request has no answer: ${answer.text}`);
    return undefined;
  }
  chart.server = shown(answer.headers.server ?? '');
  const { status } = answer.head;
  const location = status >= 300 && status < 400 ? answer.headers.location : undefined;
  const where = location === undefined ? '' : ` to ${shownLocation(location)}`;
  const scheme = answer.headers['www-authenticate'];
  const asks = scheme === undefined ? '' : `, asks for ${shown(scheme.split(' ')[0]!)} authentication`;
  const by = chart.server === '' ? '' : `, by ${chart.server}`;
  chart.note('http', 'ok', `a plain request is answered with ${status}${where}${asks}${by} in ${shownTime(answer.ms)}`);
  return answer;
}

/** Says what became of the handshake as a browser would send it. True when there was a good WebSocket. */
export async function handshakeStep(
  chart: Chart,
  visit: Visit,
  { tried, plain, origin }: { tried: Handshake; plain: Answer | undefined; origin: string | undefined },
): Promise<boolean> {
  if (tried.kind === 'open') return await openStep(chart, tried);
  if (tried.kind === 'wrong') chart.report('handshake', 'fail', 'answer-wrong', shown(tried.text));
  else if (tried.kind === 'unreachable') chart.report('handshake', 'fail', tried.fault.finding, tried.fault.text);
  else if (tried.kind === 'broken') {
    const { finding, text } = await brokenFault(visit, tried.broken);
    chart.report('handshake', 'fail', finding, text);
  } else await refusedStep(chart, visit, { answer: tried.answer, plain, origin });
  return false;
}

async function openStep(chart: Chart, { socket, answer }: Handshake & { kind: 'open' }): Promise<boolean> {
  const ending = await socket.endsWithin(AT_ONCE_MS);
  if (ending === undefined) {
    chart.note('handshake', 'ok', `101 in ${shownTime(answer.ms)}`);
    return true;
  }
  const finding = ending.how === 'broken' ? 'protocol-broken' : 'closed-at-once';
  chart.report('handshake', 'fail', finding, `101, and after ${shownTime(ending.afterMs)} ${shownEnding(ending)}`);
  return false;
}

const OF_BROKEN: Readonly<Record<Broken['reason'], FindingCode>> = {
  timeout: 'no-answer',
  closed: 'cut-before-answer',
  reset: 'cut-before-answer',
  garbage: 'not-http',
};

async function brokenFault(visit: Visit, { reason, text, code }: Broken): Promise<Fault> {
  // In TLS 1.3 the server judges the client's certificate when the handshake is over for the client.
  if (code?.startsWith('ERR_SSL')) return tlsFault({ name: code, message: text, code });
  // A server that speaks TLS cuts what is not TLS, or answers with an alert.
  if (!visit.target.isSecure && reason !== 'timeout' && (await speaksTls(visit)))
    return { finding: 'tls-expected', text: `${text}; the port speaks TLS` };
  return { finding: OF_BROKEN[reason], text: shown(text) };
}

async function speaksTls(visit: Visit): Promise<boolean> {
  const socket = await visit.open();
  if ('finding' in socket) return false;
  const secure = await dialTls(socket, visit.target, visit.options);
  socket.destroy();
  return !('finding' in secure);
}

async function refusedStep(
  chart: Chart,
  visit: Visit,
  { answer, plain, origin }: { answer: Answer; plain: Answer | undefined; origin: string | undefined },
): Promise<void> {
  const isDenied = answer.head.status === 403 || answer.head.status === 401;
  const without = isDenied && origin !== undefined ? await visit.handshake({ origin: undefined }) : undefined;
  if (without?.kind === 'open') await without.socket.close();
  const { cookie, headers } = visit.options;
  const { finding, text } = findingOfRefusal({
    answer,
    plainStatus: plain?.head.status,
    isTakenWithoutOrigin: without?.kind === 'open',
    hasCredentials: cookie !== undefined || headers.some(([name]) => /^(?:cookie|authorization)$/i.test(name)),
  });
  const scheme = answer.headers['www-authenticate'];
  const asks = scheme === undefined ? '' : `; it asks for ${shown(scheme.split(' ')[0]!)} authentication`;
  const of = finding === 'origin-refused' ? `; without "Origin: ${shown(origin!)}" it is taken` : '';
  chart.report('handshake', 'fail', finding, `${text}${asks}${of}`);
}
