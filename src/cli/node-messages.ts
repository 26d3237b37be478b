import type { Logger } from '../base/logger.ts';

/** How many warnings may wait for the log. */
const MOST_WAITING = 100;

/**
 * What Node would print as text beside the lines of the log: warnings, and the error that ends the process because nobody
 * has caught it. They become lines of it.
 */
export class NodeMessages {
  #waiting: Error[] = [];
  #onWarning = (warning: Error): void => {
    if (this.#waiting.length < MOST_WAITING) this.#waiting.push(warning);
  };

  /** From now on Node prints no warnings. */
  constructor() {
    // There is no listener with `--no-warnings`.
    if (process.listenerCount('warning') === 0) return;
    process.removeAllListeners('warning').on('warning', warning => this.#onWarning(warning));
  }

  logTo(logger: Pick<Logger, 'warn' | 'error'>): void {
    this.#onWarning = err => logger.warn({ event: 'node-warning', err }, err.message);
    for (const warning of this.#waiting.splice(0)) this.#onWarning(warning);
    process.on('uncaughtException', (err, origin) => {
      // The application has a listener of its own, and decides what becomes of the process.
      if (process.listenerCount('uncaughtException') > 1) return;
      logger.error({ event: 'uncaught-error', err, origin }, 'the process ends, because nobody has caught an error');
      process.exit(1);
    });
  }

  /** There will be no log: what waits for it, as text. */
  takeText(): string {
    return this.#waiting
      .splice(0)
      .map(({ name, message }) => `${name}: ${message}\n`)
      .join('');
  }
}
