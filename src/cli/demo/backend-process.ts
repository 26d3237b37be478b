import { type ChildProcess, fork } from 'node:child_process';
import { extname } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const RESTART_DELAY_MS = 250;

/** Runs `backend.ts` as a process of its own, and again whenever it dies, always on the same port. */
export class BackendProcess {
  readonly #note: (text: string) => void;
  #child: ChildProcess | undefined;
  #port = 0;
  #isStopped = false;

  /** @param note Takes a line for the terminal when the process died or is back. */
  constructor(note: (text: string) => void) {
    this.#note = note;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Resolves when the process listens. */
  async start(): Promise<void> {
    // `.ts` in the source, `.js` in the built package.
    const program = fileURLToPath(new URL(`./backend${extname(import.meta.filename)}`, import.meta.url));
    const child = fork(program, [String(this.#port)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#child = child;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    child.once('message', message => resolve((message as { port: number }).port));
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      reject(new Error(`the backend ended with ${signal ?? code} before it listened`));
      if (!this.#isStopped) void this.#restart(child.pid, signal ?? code);
    });
    this.#port = await promise;
  }

  /** Kills the process, as a crash would. It is restarted. */
  crash(): void {
    this.#child?.kill('SIGKILL');
  }

  stop(): void {
    this.#isStopped = true;
    if (this.#child?.connected) this.#child.disconnect();
  }

  async #restart(pid: number | undefined, how: string | number | null): Promise<void> {
    this.#note(`the backend (pid ${pid}) ended with ${how}; starting it again`);
    await wait(RESTART_DELAY_MS, undefined, { ref: false });
    if (this.#isStopped) return;
    // A failure ends the new process too, and that leads here again.
    await this.start().then(
      () => this.#note(`the backend is back (pid ${this.pid})`),
      () => {},
    );
  }
}
