import type { Logger } from '../base/logger.ts';

/**
 * From now on SIGUSR1 opens nothing. Without a listener Node opens its inspector, through which any program of this
 * machine runs code in the server; `kill -USR1` is what operators are used to for reopening logs.
 */
export function holdInspector(): void {
  process.on('SIGUSR1', () => {});
}

/** SIGUSR2 lets go of log files that were moved, and begins new ones under their names: for `logrotate`. */
export function reopenOnSignal(logs: { reopen(): Promise<void> }, logger: Pick<Logger, 'info' | 'warn'>): void {
  process.on('SIGUSR2', () => {
    void logs.reopen().then(() => logger.info({ event: 'logs-reopened', signal: 'SIGUSR2' }, 'SIGUSR2: logs reopened'));
  });
  process.on('SIGUSR1', () =>
    logger.warn({ event: 'signal-ignored', signal: 'SIGUSR1' }, 'SIGUSR1: ignored; SIGUSR2 reopens the logs'),
  );
}
