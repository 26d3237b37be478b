import { type Duration, parseDuration } from '../base/duration.ts';
import type { Logger } from '../base/logger.ts';
import type { ExitCode } from './command.ts';

/** What is left of a drain that somebody wants to be over. */
const HURRIED: Duration = '1s';

/** A server that can be stopped. */
export interface Stoppable {
  /** In ms. */
  readonly drainSettings: { readonly delayMs: number; readonly timeoutMs: number };
  stop(options: { drain?: Duration }): Promise<void>;
}

/** Somebody wants the server to stop. */
interface StopRequest {
  /** Who, for the log. */
  readonly by: string;
  /** How long it may take at most. Default: as the configuration says. */
  readonly drain?: Duration | undefined;
}

/** SIGTERM, SIGINT (Ctrl+C), and whatever is as good as these. */
export class StopSignals {
  readonly #waiting: ((request: StopRequest) => void)[] = [];
  readonly #sent: StopRequest[] = [];
  #hasBegun = false;

  /** Has one been sent? */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** From now on they end nothing by themselves. */
  listen(): void {
    for (const by of ['SIGTERM', 'SIGINT']) process.on(by, () => this.send({ by }));
  }

  send(request: StopRequest): void {
    this.#hasBegun = true;
    const waiting = this.#waiting.shift();
    if (waiting) waiting(request);
    else this.#sent.push(request);
  }

  next(): Promise<StopRequest> {
    const sent = this.#sent.shift();
    return sent === undefined ? new Promise(resolve => this.#waiting.push(resolve)) : Promise.resolve(sent);
  }
}

/**
 * Drains because the admin API was asked to. Unlike a signal, one more request never ends the process: it makes the drain
 * shorter, if it says how long that may take.
 */
export function drainOnRequest(
  server: Pick<Stoppable, 'stop'>,
  signals: StopSignals,
  { by, drain }: StopRequest,
): void {
  if (!signals.hasBegun) signals.send({ by, drain });
  else if (drain !== undefined) server.stop({ drain }).catch(() => {}); // the first stop reports failures
}

/**
 * Waits for a signal, then stops the server gracefully. The second one hurries: what is open is told to go at once, and
 * has a second. The third ends the process with 1.
 */
export async function stopOnSignal(
  server: Stoppable,
  signals: StopSignals,
  logger: Pick<Logger, 'info'>,
): Promise<ExitCode> {
  const { by: signal, drain } = await signals.next();
  const { delayMs, timeoutMs: usualMs } = server.drainSettings;
  const timeoutMs = drain === undefined ? usualMs : parseDuration(drain);
  const after = delayMs > 0 ? `after ${delayMs / 1_000} s ` : '';
  logger.info(
    { event: 'draining', signal, delayMs, timeoutMs },
    `${signal}: draining ${after}for at most ${timeoutMs / 1_000} s; once more to hurry`,
  );
  void hurry(server, signals, logger);
  const begunAt = performance.now();
  await server.stop(drain === undefined ? {} : { drain });
  const ms = Math.round(performance.now() - begunAt);
  logger.info({ event: 'stopped', ms }, `stopped after ${ms / 1_000} s`);
  return 0;
}

async function hurry(server: Stoppable, signals: StopSignals, logger: Pick<Logger, 'info'>): Promise<void> {
  const { by: signal } = await signals.next();
  logger.info({ event: 'draining', signal }, `${signal}: draining for at most ${HURRIED}; once more to end at once`);
  server.stop({ drain: HURRIED }).catch(() => {}); // whoever waits for the first one hears of it
  await signals.next();
  process.exit(1);
}
