import { LINES_DROPPED, type LogLevel, type LogPart, levelRank } from '../../base/logger.ts';

/** A line that a follower gets: of the server's own log, the access log or that of security events. */
export interface FollowedLine {
  readonly kind: 'server' | 'access' | 'security';
  /** Undefined for lines of the access log. */
  readonly level?: LogLevel;
  readonly part?: LogPart;
  /** One JSON object, with its newline. */
  readonly text: string;
}

export interface FollowFilter {
  /** Lines of this level and above, also those below the level of the log. Default: those that the log has. */
  readonly level?: LogLevel;
  /** Of this part only. Default: of all. */
  readonly part?: LogPart;
  /** Default: `server` and `security`. */
  readonly kinds?: readonly FollowedLine['kind'][];
}

/** Characters of lines that may wait for a follower. */
const ROOM = 1024 * 1024;

/** Somebody who reads along, more slowly perhaps: then lines are left out, and it learns how many. */
export class Follower {
  readonly filter: FollowFilter;
  readonly #onLine: (line: FollowedLine) => unknown;
  readonly #waiting: FollowedLine[] = [];
  #waitingSize = 0;
  #dropped = 0;
  #isRunning = false;
  #isEnded = false;

  /** @param onLine When it returns a promise, the next line waits for that. What it throws ends it. */
  constructor(filter: FollowFilter, onLine: (line: FollowedLine) => unknown) {
    this.filter = filter;
    this.#onLine = onLine;
  }

  /** @param isInLog Is the line written to a destination, too? */
  take(line: FollowedLine, isInLog: boolean): void {
    if (this.#isEnded || !this.#wants(line, isInLog)) return;
    if (this.#waitingSize + line.text.length > ROOM) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(line);
    this.#waitingSize += line.text.length;
    if (this.#isRunning) return;
    this.#isRunning = true;
    setImmediate(() => void this.#run());
  }

  end(): void {
    this.#isEnded = true;
    this.#waiting.length = 0;
  }

  #wants({ kind, level, part }: FollowedLine, isInLog: boolean): boolean {
    const { filter } = this;
    if (!(filter.kinds ?? ['server', 'security']).includes(kind)) return false;
    if (kind === 'access') return true;
    if (filter.part !== undefined && filter.part !== part) return false;
    return filter.level === undefined ? isInLog : levelRank(level!) >= levelRank(filter.level);
  }

  async #run(): Promise<void> {
    try {
      while (!this.#isEnded && this.#waiting.length > 0) {
        const line = this.#waiting.shift()!;
        this.#waitingSize -= line.text.length;
        await this.#onLine(line);
        if (this.#dropped > 0 && this.#waiting.length === 0 && !this.#isEnded) await this.#onLine(this.#notice());
      }
    } catch {
      // Its reader has gone.
      this.end();
    } finally {
      this.#isRunning = false;
    }
  }

  #notice(): FollowedLine {
    const lines = this.#dropped;
    this.#dropped = 0;
    const time = new Date().toISOString();
    const msg = `${lines} lines were left out, because they were not read fast enough`;
    const text = `${JSON.stringify({ level: 'warn', time, event: LINES_DROPPED, output: 'follower', lines, msg })}\n`;
    return { kind: 'server', level: 'warn', part: 'server', text };
  }
}
