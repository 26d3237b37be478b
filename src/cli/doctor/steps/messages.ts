import type { Chart } from '../chart.ts';
import type { Ending, ProbeSocket } from '../probe-socket.ts';
import { shown, shownEnding, shownTime } from '../shown.ts';
import type { Handshake, HandshakeOptions, Visit } from '../visit.ts';

const ECHO_MS = 2_000;
const SIZES: readonly (readonly [string, number])[] = [
  ['64 KiB', 64 * 1024],
  ['1 MiB', 1024 * 1024],
];

/** Some servers count a ping in the middle of a message as a part of it. */
const ROOM_FOR_PING = 1024;

export function subprotocolStep(
  chart: Chart,
  { subprotocol }: Handshake & { kind: 'open' },
  offered: readonly string[],
): void {
  if (offered.length === 0) return;
  if (subprotocol === '')
    chart.report('subprotocol', 'fail', 'subprotocol-missing', `none of ${offered.join(', ')} is chosen`);
  else chart.note('subprotocol', 'ok', `${subprotocol} is chosen`);
}

export async function extensionsStep(chart: Chart, visit: Visit, options: HandshakeOptions): Promise<void> {
  const tried = await visit.handshake({ ...options, compression: true });
  if (tried.kind === 'wrong') return chart.report('extensions', 'fail', 'extension-wrong', shown(tried.text));
  if (tried.kind !== 'open') {
    // A limit, or a server that has gone meanwhile, refuses any second handshake.
    const without = await visit.handshake(options);
    if (without.kind !== 'open') return chart.note('extensions', 'note', 'there is no second WebSocket to try with');
    await without.socket.close();
    return chart.report('extensions', 'fail', 'extension-wrong', 'a handshake that offers compression is not taken');
  }
  chart.note(
    'extensions',
    'ok',
    tried.isCompressed ? 'permessage-deflate is agreed' : 'none: compression is not agreed',
  );
  await tried.socket.close();
}

export async function pingStep(chart: Chart, socket: ProbeSocket, timeoutMs: number): Promise<void> {
  if (!socket.isOpen) {
    const ending = await socket.ended;
    const finding = ending.how === 'broken' ? 'protocol-broken' : 'closed-at-once';
    return chart.report('ping', 'fail', finding, `after ${shownTime(ending.afterMs)} ${shownEnding(ending)}`);
  }
  const startedAt = performance.now();
  if (await socket.ping(timeoutMs))
    return chart.note('ping', 'ok', `answered in ${shownTime(performance.now() - startedAt)}`);
  const text = socket.isOpen ? `no pong within ${shownTime(timeoutMs)}` : `then ${shownEnding(await socket.ended)}`;
  chart.report('ping', 'fail', 'no-pong', text);
}

/**
 * Sends messages of two sizes. Without `isWhole` they never end: the server takes their bytes, or refuses them, and the
 * application never sees one.
 */
export async function sizeStep(
  chart: Chart,
  visit: Visit,
  options: HandshakeOptions,
  { isWhole, timeoutMs }: { isWhole: boolean; timeoutMs: number },
): Promise<void> {
  const said: string[] = [];
  for (const [name, bytes] of SIZES) {
    const tried = await visit.handshake(options);
    if (tried.kind !== 'open')
      return chart.note('size', 'note', [...said, `${name}: no WebSocket to try with`].join('; '));
    const { ending, isTaken, text } = await sent(tried.socket, bytes, { isWhole, timeoutMs });
    said.push(`${name}: ${text}`);
    await tried.socket.close();
    if (ending?.how === 'cut') return chart.report('size', 'fail', 'size-cut', said.join('; '));
    if (ending?.how === 'broken') return chart.report('size', 'fail', 'protocol-broken', said.join('; '));
    if (ending) return chart.note('size', 'note', said.join('; '));
    if (!isTaken) return chart.report('size', 'warn', 'no-pong', said.join('; '));
  }
  chart.note('size', 'ok', said.join('; '));
}

async function sent(
  socket: ProbeSocket,
  bytes: number,
  { isWhole, timeoutMs }: { isWhole: boolean; timeoutMs: number },
): Promise<{ ending?: Ending; isTaken: boolean; text: string }> {
  socket.sendText(isWhole ? bytes : bytes - ROOM_FOR_PING, isWhole);
  const isTaken = await socket.ping(timeoutMs);
  if (!socket.isOpen) {
    const ending = await socket.ended;
    if (ending.how !== 'close') return { ending, isTaken, text: 'cut' };
    const reason = ending.reason === '' ? '' : ` "${shown(ending.reason)}"`;
    return { ending, isTaken, text: `refused with ${ending.code}${reason}` };
  }
  if (!isTaken) return { isTaken, text: `neither taken nor refused within ${shownTime(timeoutMs)}` };
  if (!isWhole) return { isTaken, text: 'taken' };
  return {
    isTaken,
    text: (await isEchoed(socket, bytes, Math.min(ECHO_MS, timeoutMs))) ? 'echoed' : 'taken, not echoed',
  };
}

async function isEchoed(socket: ProbeSocket, bytes: number, ms: number): Promise<boolean> {
  const until = performance.now() + ms;
  while (socket.lastMessageBytes !== bytes && performance.now() < until)
    if (!(await socket.nextMessage(until - performance.now()))) break;
  return socket.lastMessageBytes === bytes;
}
