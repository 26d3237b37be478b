import type { Chart } from '../chart.ts';
import type { Ending, ProbeSocket } from '../probe-socket.ts';
import { shown, shownTime } from '../shown.ts';
import type { HandshakeOptions, Visit } from '../visit.ts';

/** So often does the second socket send a ping in the time that is asked for. */
const PINGS = 7;
/** Both were cut by the same clock when their ends are this close, in parts of the time. */
const SAME_TIME = 0.15;

/** What becomes of one silent WebSocket, and of the one beside it. */
interface Silence {
  /** Of the silent one; undefined when it stayed. */
  readonly ending: Ending | undefined;
  /** Of the one with pings, when it ended at the same time. */
  readonly other: Ending | undefined;
  /** Of pings of the server. */
  readonly heard: string;
}

/**
 * Keeps a WebSocket silent, which answers pings as browsers do, and beside it one that sends pings: when only the silent one
 * ends, pings help.
 */
export async function idleStep(chart: Chart, visit: Visit, options: HandshakeOptions, idleMs: number): Promise<void> {
  const everyMs = idleMs / PINGS;
  const first = await keptSilent(visit, options, { idleMs, everyMs });
  const afterMs = first?.ending?.afterMs ?? idleMs;
  // It came before pings could have helped.
  const again = afterMs < 2 * everyMs ? await keptSilent(visit, options, { idleMs, everyMs: afterMs / 3 }) : undefined;
  const silence = again?.ending ? again : first;
  if (silence === undefined) return chart.note('idle', 'note', 'there is no second WebSocket to try with');
  const { ending, other, heard } = silence;
  if (ending === undefined) chart.note('idle', 'ok', `open after ${shownTime(idleMs)} of silence; ${heard}`);
  else reportEnd(chart, ending, other, heard);
}

/** Undefined when there are no two WebSockets to try with. */
async function keptSilent(
  visit: Visit,
  options: HandshakeOptions,
  { idleMs, everyMs }: { idleMs: number; everyMs: number },
): Promise<Silence | undefined> {
  const silent = await visit.handshake(options);
  const pinging = await visit.handshake(options);
  if (silent.kind !== 'open' || pinging.kind !== 'open') {
    for (const tried of [silent, pinging]) if (tried.kind === 'open') tried.socket.cut();
    return undefined;
  }
  const pings = keepAlive(pinging.socket, everyMs);
  const ending = await silent.socket.endsWithin(idleMs);
  const other = ending && (await pinging.socket.endsWithin(Math.min(idleMs * SAME_TIME, idleMs - ending.afterMs)));
  clearInterval(pings);
  const heard = pingsOf(silent.socket);
  await Promise.all([silent.socket.close(), pinging.socket.close()]);
  return { ending, other, heard };
}

function keepAlive(socket: ProbeSocket, everyMs: number): NodeJS.Timeout {
  const ping = () => void socket.ping(everyMs);
  ping();
  return setInterval(ping, everyMs);
}

function reportEnd(chart: Chart, ending: Ending, other: Ending | undefined, heard: string): void {
  const reason = ending.reason === '' ? '' : ` "${shown(ending.reason)}"`;
  const how = ending.how === 'close' ? `closed with ${ending.code}${reason}` : 'cut without a close frame (1006)';
  const beside = other === undefined ? 'with pings of ours it stays open' : 'with pings of ours it ends as well';
  const text = `${how} after ${shownTime(ending.afterMs)} of silence; ${beside}; ${heard}`;
  if (ending.how === 'broken') chart.report('idle', 'fail', 'protocol-broken', text);
  else if (other !== undefined) chart.report('idle', 'fail', 'lifetime-cut', text);
  else chart.report('idle', 'fail', ending.how === 'close' ? 'idle-closed' : 'idle-cut', text);
}

function pingsOf({ pingsAt }: ProbeSocket): string {
  const [first] = pingsAt;
  if (first === undefined) return 'no ping came from the server';
  const interval = pingsAt.length === 1 ? first : (pingsAt.at(-1)! - first) / (pingsAt.length - 1);
  return `the server sends a ping every ${shownTime(interval)}`;
}
