import { execFile } from 'node:child_process';
import type { Logger } from '../../base/logger.ts';

/** systemd-notify waits until its message has been read. A manager that does not read for so long gets no more of it. */
const MESSAGE_TIMEOUT_MS = 5_000;
const PROGRAM = 'systemd-notify';

type Outcome = { readonly error: NodeJS.ErrnoException | undefined; readonly said: string };

/**
 * Sends messages of `sd_notify(3)` to a service manager, one after the other, with the program `systemd-notify`: Node
 * has no datagram sockets of the Unix domain.
 *
 * A message that cannot be sent is said once in the log, and stops nothing.
 */
export class Messages {
  readonly #socket: string;
  #logger: Logger | undefined;
  readonly #waiting: (readonly string[])[] = [];
  #sending: Promise<void> | undefined;
  #isProgramMissing = false;
  #failure: { readonly err: Error; readonly text: string } | undefined;

  constructor(socket: string) {
    this.#socket = socket;
  }

  /** What has failed before there was a log is said now. */
  logTo(logger: Logger): void {
    this.#logger = logger;
    this.#sayFailure();
  }

  /** @param fields `NAME=value` each, without line breaks. */
  send(...fields: readonly string[]): void {
    if (this.#isProgramMissing) return;
    this.#waiting.push(fields);
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = undefined;
    });
  }

  /** True while a message waits for the one before. */
  get hasWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** Resolves when all have been read, or have failed. */
  async sent(): Promise<void> {
    await this.#sending;
  }

  async #sendAll(): Promise<void> {
    for (let fields = this.#waiting.shift(); fields; fields = this.#waiting.shift()) {
      const { error, said } = await this.#run(fields);
      if (error) this.#report(error, said);
    }
  }

  #run(fields: readonly string[]): Promise<Outcome> {
    const { PATH } = process.env;
    const env = { NOTIFY_SOCKET: this.#socket, ...(PATH !== undefined && { PATH }) };
    const limits = { timeout: MESSAGE_TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: 2 ** 16 } as const;
    return new Promise(resolve => {
      execFile(PROGRAM, [...fields], { env, ...limits }, (error, _, stderr) => {
        resolve({ error: (error as NodeJS.ErrnoException | null) ?? undefined, said: stderr.trim() });
      });
    });
  }

  #report(error: NodeJS.ErrnoException, said: string): void {
    if (error.code === 'ENOENT') {
      this.#isProgramMissing = true;
      this.#waiting.length = 0;
    }
    if (this.#failure) return;
    const remedy = this.#isProgramMissing
      ? `${PROGRAM} is not in PATH; install systemd where the server runs, or start it without NOTIFY_SOCKET`
      : said || error.message;
    this.#failure = { err: error, text: `the service manager is not told how the server is: ${remedy}` };
    this.#sayFailure();
  }

  #sayFailure(): void {
    if (!this.#failure) return;
    const { err, text } = this.#failure;
    this.#logger?.warn({ event: 'service-manager-unreachable', err }, text);
  }
}
