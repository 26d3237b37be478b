import { Chart, type Step } from './chart.ts';
import type { Answer } from './exchange.ts';
import { connectStep, tlsStep } from './steps/connect.ts';
import { cookieStep } from './steps/cookie.ts';
import { handshakeStep, httpStep } from './steps/handshake.ts';
import { idleStep } from './steps/idle.ts';
import { extensionsStep, pingStep, sizeStep, subprotocolStep } from './steps/messages.ts';
import { originStep } from './steps/origin.ts';
import type { Target } from './target.ts';
import { type Handshake, type HandshakeOptions, Visit, type VisitOptions } from './visit.ts';

export interface DoctorOptions extends VisitOptions {
  /** Of the page. Default: that of the site. Null: none, as of a client that is not a browser. */
  readonly origin?: string | null | undefined;
  readonly subprotocols: readonly string[];
  /** How long a WebSocket is kept silent; 0: not at all. */
  readonly idleMs: number;
  /** Whole messages are sent, which the application sees. */
  readonly sendsMessages: boolean;
  /** The variable that names a proxy for this machine's programs. */
  readonly clientProxy?: string | undefined;
  readonly onStep?: ((step: Step) => void) | undefined;
}

/**
 * Looks at a WebSocket from the client's side, one step after the other, until one fails that the others need. Each connection
 * and answer has `timeoutMs`, and what a server sends is bounded, so that it ends whatever the server does.
 */
export async function examineUrl(target: Target, options: DoctorOptions): Promise<Chart> {
  const chart = new Chart(options.onStep);
  if (options.clientProxy !== undefined)
    chart.note(
      'proxy',
      'note',
      `${options.clientProxy} is set, and not used: the server is dialled directly. A client that goes through that proxy may see something else`,
    );
  const address = await connectStep(chart, target, options);
  if (address === undefined) return chart;
  if (!(await tlsStep(chart, target, address, options))) return chart;
  const visit = new Visit(target, address, options);
  const { subprotocols } = options;
  const origin = options.origin === null ? undefined : (options.origin ?? target.origin);
  const handshake: HandshakeOptions = { origin, ...(subprotocols.length > 0 && { subprotocols }) };

  const plain = await httpStep(chart, visit);
  const tried = await visit.handshake(handshake);
  const isOpen = await handshakeStep(chart, visit, { tried, plain, origin });
  await cookieStep(chart, visit, answersOf(plain, tried));
  if (tried.kind !== 'open' || !isOpen) return chart;
  // Before there is a second one: some servers let a client have one only.
  await pingStep(chart, tried.socket, options.timeoutMs);
  await tried.socket.close();
  subprotocolStep(chart, tried, subprotocols);
  await originStep(chart, visit, origin);
  await extensionsStep(chart, visit, handshake);
  await sizeStep(chart, visit, handshake, { isWhole: options.sendsMessages, timeoutMs: options.timeoutMs });
  if (options.idleMs > 0) await idleStep(chart, visit, handshake, options.idleMs);
  return chart;
}

function answersOf(plain: Answer | undefined, tried: Handshake): Answer[] {
  return [plain, 'answer' in tried ? tried.answer : undefined].filter(answer => answer !== undefined);
}
