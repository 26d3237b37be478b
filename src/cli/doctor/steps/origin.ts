import type { Chart } from '../chart.ts';
import type { Handshake, Visit } from '../visit.ts';

/** A name that can be nobody's (RFC 2606). */
const FOREIGN = 'https://doctor.invalid';

/** Whom the server lets in besides. Only read where the handshake with the own origin was taken. */
export async function originStep(chart: Chart, visit: Visit, origin: string | undefined): Promise<void> {
  const own = origin === undefined ? [] : ['own: 101'];
  const without = origin === undefined ? undefined : await statusOf(visit.handshake({ origin: undefined }));
  const foreign = await statusOf(visit.handshake({ origin: FOREIGN }));
  const text = [...own, ...(without ? [`none: ${without}`] : []), `foreign: ${foreign}`].join(', ');
  const { cookie } = visit.options;
  const needsCookie = cookie !== undefined && (await isDenied(visit.handshake({ origin, cookie: null })));
  if (foreign === '101' && needsCookie)
    chart.report('origin', 'warn', 'origin-open', `${text}; and it is the cookie that lets in`);
  else chart.note('origin', 'ok', text);
}

async function statusOf(trying: Promise<Handshake>): Promise<string> {
  const tried = await trying;
  if (tried.kind === 'open') await tried.socket.close();
  if (tried.kind === 'open' || tried.kind === 'wrong' || tried.kind === 'refused') return `${tried.answer.head.status}`;
  return 'no answer';
}

async function isDenied(trying: Promise<Handshake>): Promise<boolean> {
  return /^(?:3\d\d|401|403)$/.test(await statusOf(trying));
}
