import { closeSync, constants, fstatSync, open, openSync, type Stats, stat, statSync, write, writeSync } from 'node:fs';
import type { Clock } from '../../base/clock.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { ByteSink } from './line-output.ts';

/** Between two looks at whether the path still leads to the open file. */
const LOOK_EVERY_MS = 1_000;
/** Its group may read it: programs that watch logs run as users of their own. */
const MODE = 0o640;
const { O_APPEND, O_CREAT, O_NONBLOCK, O_RDWR, O_WRONLY } = constants;
const APPENDING = O_APPEND | O_CREAT | O_WRONLY;

/**
 * A file that lines are appended to, in another thread, or a named pipe, which may have no reader yet. One that was moved away, as by `logrotate`, is let go of within a
 * second and begun anew under its name; one that was cut to nothing is gone on with.
 */
export class LogFile implements ByteSink {
  readonly #path: string;
  readonly #clock: Clock;
  #descriptor: number;
  #lookedAt: number;
  #isBusy = false;
  readonly #next: ((done: () => void) => void)[] = [];
  #isClosed = false;

  /** @throws {HoldfastError} ERR_CONFIG_INVALID when it cannot be written. */
  constructor(path: string, where: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
    this.#lookedAt = clock.monotonic();
    try {
      this.#descriptor = openSync(path, flagsFor(statSync(path, { throwIfNoEntry: false })), MODE);
    } catch (cause) {
      const { message } = cause as Error;
      throw new HoldfastError('ERR_CONFIG_INVALID', `${where}: cannot write ${path}: ${message}`, { cause });
    }
  }

  write(bytes: Uint8Array, onDone: (error: NodeJS.ErrnoException | null, written: number) => void): void {
    if (this.#isClosed) return onDone(Object.assign(new Error('the log is closed'), { code: 'EBADF' }), 0);
    this.#alone(done =>
      this.#follow(() =>
        write(this.#descriptor, bytes, (error, written) => {
          done();
          onDone(error, written);
        }),
      ),
    );
  }

  writeNow(bytes: Uint8Array): number {
    return writeSync(this.#descriptor, bytes);
  }

  /**
   * Looks now whether the path still leads to the open file, and begins a new one if it does not. Resolves when lines that
   * come later go there.
   */
  reopen(): Promise<void> {
    return new Promise(resolve => {
      if (this.#isClosed) return resolve();
      this.#alone(done => {
        this.#lookedAt = Number.NEGATIVE_INFINITY;
        this.#follow(() => {
          done();
          resolve();
        });
      });
    });
  }

  /** When what is being written is written. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (!this.#isBusy) closeSync(this.#descriptor);
  }

  /** One at a time: the descriptor of a write must not be closed under it. */
  #alone(work: (done: () => void) => void): void {
    if (this.#isBusy) return void this.#next.push(work);
    this.#isBusy = true;
    work(() => {
      this.#isBusy = false;
      const next = this.#next.shift();
      if (next) this.#alone(next);
      else if (this.#isClosed) closeSync(this.#descriptor);
    });
  }

  #follow(go: () => void): void {
    const now = this.#clock.monotonic();
    if (now < this.#lookedAt + LOOK_EVERY_MS) return go();
    this.#lookedAt = now;
    stat(this.#path, (error, there) => {
      const own = fstatSync(this.#descriptor);
      const isMoved = error ? error.code === 'ENOENT' : there.ino !== own.ino || there.dev !== own.dev;
      if (!isMoved) return go();
      open(this.#path, flagsFor(error ? undefined : there), MODE, (failed, descriptor) => {
        // Where none can be begun, the one that was moved has the lines.
        if (!failed) {
          closeSync(this.#descriptor);
          this.#descriptor = descriptor;
        }
        go();
      });
    });
  }
}

/**
 * A pipe whose reader does not read never holds up a thread, for which the end of the process would wait. Open for both, it
 * can be opened before its reader is there, and keeps what is written when that goes; Linux has this.
 */
function flagsFor(there: Stats | undefined): number {
  const isPipe = there?.isFIFO() && process.platform === 'linux';
  return O_NONBLOCK | (isPipe ? O_RDWR : APPENDING);
}
