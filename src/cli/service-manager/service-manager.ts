import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { Messages } from './messages.ts';
import { watchdogMs } from './watchdog.ts';

/** The manager takes 4,096 bytes for a message. */
const MAX_STATUS_LENGTH = 512;
/**
 * While the server drains, the manager is asked for a little more time again and again: one that hangs is killed soon
 * after its `TimeoutStopSec`, and not at the end of a long drain.
 */
const EXTENSION_MS = 15_000;
const EXTENSION_EVERY_MS = 5_000;
/** What the server needs after the drain, to close its stores. */
const CLOSING_MS = 15_000;
/** Pings that may be lost before the watchdog bites: two of three. */
const PINGS_PER_WATCHDOG = 3;

export interface ServiceManagerParts {
  readonly clock: Clock;
  /** Of the process that the manager watches. Default: this one's. */
  readonly pid?: number;
}

/**
 * What the service manager that has started this process (systemd, or one that speaks its protocol) is told of it. All
 * of this does nothing where there is none, and never fails.
 *
 * @see sd_notify(3), systemd.service(5)
 */
export class ServiceManager {
  readonly #messages: Messages | undefined;
  readonly #clock: Clock;
  readonly #pid: number;
  readonly #pingMs: number | undefined;
  #ping: Timer | undefined;
  #extension: Timer | undefined;
  #status = '';
  #phase: 'starting' | 'serving' | 'stopping' = 'starting';

  /** Takes its variables out of the environment, so that no child process believes they are meant for it. */
  constructor(environment: Record<string, string | undefined>, { clock, pid = process.pid }: ServiceManagerParts) {
    const { NOTIFY_SOCKET } = environment;
    const intervalMs = watchdogMs(environment, pid);
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete environment[name];
    this.#clock = clock;
    this.#pid = pid;
    this.#messages = NOTIFY_SOCKET ? new Messages(NOTIFY_SOCKET) : undefined;
    this.#pingMs = intervalMs && intervalMs / PINGS_PER_WATCHDOG;
  }

  /** There is a log, where it is said if the manager cannot be told. */
  logTo(logger: Logger): void {
    this.#messages?.logTo(logger);
  }

  /** The server has started. From now on the watchdog is pinged while the event loop turns. */
  ready(status: string): void {
    if (this.#phase === 'stopping') return;
    this.#phase = 'serving';
    this.#status = status;
    this.#messages?.send('READY=1', ...this.#mainPid(), statusField(status));
    if (this.#messages && this.#pingMs && !this.#ping) this.#keepPinging(this.#messages, this.#pingMs);
  }

  /**
   * A reload begins. `reloaded` has to follow, whatever comes of it. Both say nothing while the server starts or stops: the
   * manager would take it for ready.
   */
  reloading(): void {
    if (this.#phase !== 'serving') return;
    // What `Type=notify-reload` needs, and every other type ignores: the reload began after the manager asked for it.
    const now = process.hrtime.bigint() / 1000n;
    this.#messages?.send('RELOADING=1', `MONOTONIC_USEC=${now}`, statusField('reloading the configuration'));
  }

  /** @param status What the server is doing now; without one, the same as before the reload. */
  reloaded(status = this.#status): void {
    if (this.#phase !== 'serving') return;
    this.#status = status;
    this.#messages?.send('READY=1', statusField(status));
  }

  /**
   * The server stops. The manager leaves it alone for the drain and the closing of its stores, but only while its event
   * loop turns.
   *
   * @param drainMs The longest time that the drain may take, in milliseconds.
   */
  stopping(drainMs: number, status = `draining for at most ${Math.ceil(drainMs / 1000)} s`): void {
    this.#phase = 'stopping';
    this.#messages?.send('STOPPING=1', statusField(status), extensionField());
    this.#clock.clearTimeout(this.#extension);
    if (this.#messages) this.#keepExtending(this.#messages, this.#clock.monotonic() + drainMs + CLOSING_MS);
  }

  /** One line for `systemctl status`. */
  status(text: string): void {
    this.#status = text;
    this.#messages?.send(statusField(text));
  }

  /** Resolves when the manager has read what it was sent. Nothing is sent by itself after that. */
  async close(): Promise<void> {
    this.#clock.clearTimeout(this.#ping);
    this.#clock.clearTimeout(this.#extension);
    await this.#messages?.sent();
  }

  /** Where a wrapper (npm, npx) is what the manager has started. Process 1 of a container has another number outside. */
  #mainPid(): string[] {
    return this.#pid === 1 ? [] : [`MAINPID=${this.#pid}`];
  }

  #keepPinging(messages: Messages, everyMs: number): void {
    // One that waits is as good as two.
    if (!messages.hasWaiting) messages.send('WATCHDOG=1');
    this.#ping = this.#clock.setTimeout(() => this.#keepPinging(messages, everyMs), everyMs);
  }

  #keepExtending(messages: Messages, until: number): void {
    this.#extension = this.#clock.setTimeout(() => {
      if (this.#clock.monotonic() >= until) return;
      messages.send(extensionField());
      this.#keepExtending(messages, until);
    }, EXTENSION_EVERY_MS);
  }
}

function extensionField(): string {
  return `EXTEND_TIMEOUT_USEC=${EXTENSION_MS * 1000}`;
}

/** A line break would begin the next field. */
function statusField(text: string): string {
  return `STATUS=${text.replace(/\p{Cc}+/gu, ' ').slice(0, MAX_STATUS_LENGTH)}`;
}
