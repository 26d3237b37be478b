import type { Duration } from '../base/duration.ts';
import type { Logger } from '../base/logger.ts';
import type { ExitCode } from './command.ts';
import { endSoon } from './end-soon.ts';

/**
 * Waits for SIGTERM or SIGINT (Ctrl+C), then stops the server gracefully.
 *
 * A second signal ends the process at once with 1: the operator has waited long enough.
 *
 * @param drainTime Asked when the signal has come.
 */
export async function stopOnSignal(
  server: { stop(options: { drain?: Duration }): Promise<void> },
  drainTime: () => Duration,
  logger: Pick<Logger, 'info'>,
): Promise<ExitCode> {
  const signal = await nextSignal();
  const drain = drainTime();
  // Listened for before it is announced: a reader of the line may send it at once.
  void nextSignal().then(() => process.exit(1));
  logger.info({ event: 'draining', signal }, `${signal}: draining for at most ${drain}; once more to end at once`);
  await server.stop({ drain });
  endSoon();
  return 0;
}

async function nextSignal(): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  process.once('SIGTERM', resolve);
  process.once('SIGINT', resolve);
  const signal = await promise;
  process.off('SIGTERM', resolve);
  process.off('SIGINT', resolve);
  return signal;
}

/**
 * From now on SIGHUP ends nothing: it comes when the terminal closes, and from operators who expect a daemon to read
 * its configuration again. It is read at the start only.
 */
export function outliveHangup(logger: Pick<Logger, 'warn'>): void {
  process.on('SIGHUP', () =>
    logger.warn(
      { event: 'signal-ignored', signal: 'SIGHUP' },
      'SIGHUP: ignored, as the configuration is read at the start only; stop with SIGTERM and start again',
    ),
  );
}
