import { type Clock, systemClock } from '../../base/clock.ts';
import { LineOutput, type OutputListener } from './line-output.ts';
import { LogFile } from './log-file.ts';
import type { Place } from './places.ts';
import { standardError, standardOutput } from './standard-output.ts';

/** How long the end waits for what is not written yet. */
const FINISH_MS = 500;
/** How long a file that no log has any more is written on, for lines that wait. The process serves on meanwhile. */
const RETIRE_MS = 5_000;

interface OpenFile {
  readonly file: LogFile;
  readonly output: LineOutput;
}

/** The outputs of logs, each once: two logs that share one do not stand inside each other's lines. */
export class Outputs {
  readonly #clock: Clock;
  readonly #listener: OutputListener;
  #files = new Map<string, OpenFile>();
  readonly #retired = new Set<OpenFile>();
  readonly #onExit = () => {
    for (const { output } of [...this.#files.values(), ...this.#retired]) output.finish(FINISH_MS);
  };

  /** @param listener Learns of lines that cannot be written. */
  constructor(listener: OutputListener, clock: Clock) {
    this.#listener = listener;
    this.#clock = clock;
    process.on('exit', this.#onExit);
  }

  /**
   * Opens what these places need and keeps what is open already. What is not needed any more stays open until `release`.
   *
   * @throws {HoldfastError} ERR_CONFIG_INVALID when a file cannot be written; nothing has changed then.
   */
  open(places: readonly { readonly place: Place; readonly where: string }[]): LineOutput[] {
    const opened = new Map<string, OpenFile>();
    try {
      const outputs = places.map(({ place, where }) => {
        if ('to' in place) return this.#standard(place.to);
        const known = this.#files.get(place.file) ?? opened.get(place.file);
        const file = known ?? this.#openFile(place.file, where);
        if (!known) opened.set(place.file, file);
        return file.output;
      });
      for (const [path, file] of opened) this.#files.set(path, file);
      return outputs;
    } catch (error) {
      for (const { file } of opened.values()) file.close();
      throw error;
    }
  }

  /** Lets go of files that none of these places is. Lines that wait are written before. */
  release(places: readonly { readonly place: Place }[]): void {
    const needed = new Set(places.flatMap(({ place }) => ('file' in place ? [place.file] : [])));
    for (const [path, file] of [...this.#files]) {
      if (needed.has(path)) continue;
      this.#files.delete(path);
      void this.#retire(file, RETIRE_MS);
    }
  }

  /** Resolves when lines that come later go to the files that their paths lead to. */
  async reopen(): Promise<void> {
    await Promise.all([...this.#files.values()].map(({ file }) => file.reopen()));
  }

  /** Writes what waits, for at most half a second; what a disk that stalls has not taken by then is lost, and counted. */
  async close(): Promise<void> {
    const open = [...this.#files.values(), ...this.#retired];
    this.#files = new Map();
    await Promise.all(open.map(each => this.#retire(each, FINISH_MS)));
    process.off('exit', this.#onExit);
  }

  #standard(to: 'stdout' | 'stderr'): LineOutput {
    const output = to === 'stdout' ? standardOutput() : standardError();
    output.listener = this.#listener;
    return output;
  }

  #openFile(path: string, where: string): OpenFile {
    const file = new LogFile(path, where, this.#clock);
    const output = new LineOutput(path, file, this.#clock, true);
    output.listener = this.#listener;
    return { file, output };
  }

  /** Never by waiting in the foreground: a disk that stalls must not stop what is served. */
  #retire(open: OpenFile, limitMs: number): Promise<void> {
    this.#retired.add(open);
    return new Promise(resolve => {
      const end = () => {
        systemClock.clearTimeout(timer);
        this.#retired.delete(open);
        open.file.close();
        resolve();
      };
      const timer = systemClock.setTimeout(() => {
        open.output.abandon();
        end();
      }, limitMs);
      open.output.whenEmpty(end);
    });
  }
}
