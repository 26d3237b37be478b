import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('notify_socket.py', import.meta.url));

export interface Notification {
  readonly fields: readonly string[];
  /** How many descriptors came along. */
  readonly descriptors: number;
  /** The process that the kernel says it is from. */
  readonly pid: number;
}

/** A service manager, as far as `sd_notify(3)` is concerned: a real datagram socket. */
export class NotifySocket {
  readonly address: string;
  readonly notifications: Notification[] = [];
  readonly #process: ChildProcess;
  #onNotification = () => {};

  private constructor(address: string, process: ChildProcess) {
    this.address = address;
    this.#process = process;
  }

  /** @param address A path, or an abstract name that begins with `@`. */
  static async open(address: string): Promise<NotifySocket> {
    const process = spawn('/usr/bin/python3', [program, address], { stdio: ['ignore', 'pipe', 'inherit'] });
    const socket = new NotifySocket(address, process);
    const lines = createInterface(process.stdout!);
    await once(lines, 'line');
    lines.on('line', line => {
      socket.notifications.push(JSON.parse(line));
      socket.#onNotification();
    });
    return socket;
  }

  /** The fields of all messages, barriers left out. */
  get fields(): string[] {
    return this.notifications.flatMap(({ fields }) => fields).filter(field => field !== 'BARRIER=1');
  }

  /** Resolves when so many fields match. */
  async received(pattern: RegExp, times = 1): Promise<string[]> {
    const { promise, resolve } = Promise.withResolvers<string[]>();
    this.#onNotification = () => {
      const matching = this.fields.filter(field => pattern.test(field));
      if (matching.length >= times) resolve(matching);
    };
    this.#onNotification();
    return promise;
  }

  async close(): Promise<void> {
    this.#process.kill('SIGKILL');
    if (this.#process.exitCode === null && this.#process.signalCode === null) await once(this.#process, 'exit');
  }
}
