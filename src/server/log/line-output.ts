import { type Clock, systemClock, type Timer } from '../../base/clock.ts';

/**
 * `ordinary` lines are dropped before those about security. A `notice` says what was dropped, and is not dropped
 * itself.
 */
export type LineRank = 'ordinary' | 'security' | 'notice';

/** Takes whole lines, each with its newline. Never throws and never waits. */
export interface LineSink {
  write(line: string, rank?: LineRank): unknown;
}

/** Why lines do not get out: an error of the operating system, or that nobody reads them. */
export interface OutputTrouble {
  /** `stdout` or `stderr`. */
  readonly output: string;
  /** `EAGAIN`: the other end of a pipe or terminal does not read. */
  readonly code: string;
}

export interface LostLines extends OutputTrouble {
  readonly lines: number;
  /** Of these, how many were about security. */
  readonly securityLines: number;
}

export interface OutputListener {
  /** Writing has begun to fail. Lines wait, as many as there is room for. Not called when they only have to wait. */
  onTrouble(trouble: OutputTrouble): void;
  /** Lines were dropped, and it goes on, or the process ends. */
  onLost(lost: LostLines): void;
}

/** Bytes to somewhere: some of them at once or later, never by waiting for the other end. */
export interface ByteSink {
  /** Calls `onDone` once: before it returns, or later. */
  write(bytes: Uint8Array, onDone: (error: NodeJS.ErrnoException | null, written: number) => void): void;
  /** For the end of the process. @throws what the operating system says, `EAGAIN` when it would have to wait. */
  writeNow(bytes: Uint8Array): number;
}

/** Characters of waiting lines up to which another line of this rank still may wait. */
const ROOM: Readonly<Record<LineRank, number>> = {
  ordinary: 1024 * 1024,
  security: 2 * 1024 * 1024,
  notice: Number.POSITIVE_INFINITY,
};
/** A line costs more than its characters. */
const LINE_OVERHEAD = 64;
/** Lines are written together up to this many characters. */
const CHUNK = 64 * 1024;
/** From one write of an output that gathers to its next: a write costs as much as it does to make tens of lines. */
const GATHER_MS = 50;
/** Between attempts at an output that takes no more, while it stays so twice as long each time up to the second. */
const POLL_MS = 5;
const MAX_POLL_MS = 100;
/** Between attempts at an output that fails. */
const RETRY_MS = 1_000;
/** Between two notices of lines that were dropped. */
const NOTICE_EVERY_MS = 10_000;

/**
 * Lines for one of the process's outputs: they never throw, never block, and take bounded memory.
 *
 * A line is written at once when it can be; where outputs gather, at the end of the turn, but no more often than each
 * 50 ms unless 64 KiB wait. What cannot be written waits, in order, up to 1 MiB of lines, or 2 MiB for those about
 * security; then lines are dropped and counted, and when it flows again the listener learns how many.
 */
export class LineOutput implements LineSink {
  listener: OutputListener | undefined;
  readonly #isGathering: boolean;
  /** Of an output that gathers: will what waits be written without being asked for? */
  #isScheduled = false;
  #gatherTimer: Timer | undefined;
  #wroteAt = Number.NEGATIVE_INFINITY;
  readonly #name: string;
  readonly #sink: ByteSink;
  readonly #clock: Clock;
  readonly #waiting: string[] = [];
  #next = 0;
  /** Characters, and what lines cost besides. */
  #waitingSize = 0;
  /** What is being written. */
  #chunk: Uint8Array | undefined;
  #isWriting = false;
  /** Of writes: what comes back of one that was let go of is ignored. */
  #generation = 0;
  #isAbandoned = false;
  #isPumping = false;
  #timer: Timer | undefined;
  #pollMs = POLL_MS;
  /** The latest, until something was written again. */
  #trouble: string | undefined;
  #lost = { lines: 0, securityLines: 0, code: '' };
  #nextNoticeAt = Number.NEGATIVE_INFINITY;
  #noticeTimer: Timer | undefined;
  readonly #onEmpty: (() => void)[] = [];

  /**
   * @param isGathering Lines are written together: for an access log, which has one for each request.
   */
  constructor(name: string, sink: ByteSink, clock: Clock = systemClock, isGathering = false) {
    this.#isGathering = isGathering;
    this.#name = name;
    this.#sink = sink;
    this.#clock = clock;
  }

  write(line: string, rank: LineRank = 'ordinary'): void {
    if (this.#isAbandoned) return;
    if (this.#waitingSize > ROOM[rank]) {
      this.#lost.lines++;
      if (rank === 'security') this.#lost.securityLines++;
      this.#lost.code = this.#trouble ?? 'EAGAIN';
      return;
    }
    this.#waiting.push(line);
    this.#waitingSize += line.length + LINE_OVERHEAD;
    if (!this.#isGathering || this.#waitingSize >= CHUNK) this.#pump();
    else this.#schedule();
  }

  /** Calls back once, when nothing waits to be written: at once, or later. */
  whenEmpty(onEmpty: () => void): void {
    this.#onEmpty.push(onEmpty);
    this.#pump();
  }

  /**
   * At the end of the process only, because a disk that stalls stops it: writes what waits, for at most this time.
   *
   * @returns false when not everything was written.
   */
  finish(limitMs: number): boolean {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    // What another thread is writing is beyond reach; it ends before the process does.
    if (this.#isWriting) this.#chunk = undefined;
    this.#generation++;
    this.#isWriting = true;
    const deadline = performance.now() + limitMs;
    while (this.#fill()) {
      try {
        this.#advance(this.#sink.writeNow(this.#chunk!));
      } catch (error) {
        this.#trouble = codeOf(error);
        if (this.#trouble !== 'EAGAIN' || performance.now() >= deadline) {
          this.#lost.lines += this.#waiting.length - this.#next + countLines(this.#chunk!);
          this.#lost.code = this.#trouble;
          break;
        }
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MS);
      }
    }
    this.#isWriting = false;
    if (this.#lost.lines === 0) return true;
    this.#tellLost();
    return false;
  }

  /**
   * Gives up what waits, which the listener learns, and all that comes later. What another thread is writing is beyond
   * reach. It waits for nothing.
   */
  abandon(): void {
    if (this.#isAbandoned) return;
    this.#clock.clearTimeout(this.#timer);
    this.#clock.clearTimeout(this.#noticeTimer);
    this.#clock.clearTimeout(this.#gatherTimer);
    this.#timer = undefined;
    this.#lost.lines += this.#waiting.length - this.#next;
    if (this.#chunk && !this.#isWriting) this.#lost.lines += countLines(this.#chunk);
    this.#lost.code = this.#trouble ?? 'EAGAIN';
    this.#isAbandoned = true;
    this.#generation++;
    this.#isWriting = false;
    this.#chunk = undefined;
    this.#waiting.length = 0;
    this.#next = 0;
    this.#waitingSize = 0;
    if (this.#lost.lines > 0) this.#tellLost();
    this.#pump();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(this.#onTurn);
  }

  /** What comes alone is there at once; of what comes in masses a write has as much as comes in its time. */
  readonly #onTurn = () => {
    const waitMs = this.#wroteAt + GATHER_MS - this.#clock.monotonic();
    if (waitMs > 0) this.#gatherTimer = this.#clock.setTimeout(this.#onGathered, waitMs);
    else this.#onGathered();
  };

  readonly #onGathered = () => {
    this.#isScheduled = false;
    this.#pump();
  };

  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    while (!this.#isWriting && this.#timer === undefined && this.#fill()) {
      this.#isWriting = true;
      const generation = this.#generation;
      this.#sink.write(this.#chunk!, (error, written) => {
        if (generation === this.#generation) this.#onWritten(error, written);
      });
    }
    this.#isPumping = false;
    if (this.#onEmpty.length > 0 && this.#isEmpty) for (const onEmpty of this.#onEmpty.splice(0)) onEmpty();
  }

  get #isEmpty(): boolean {
    return !this.#isWriting && this.#chunk === undefined && this.#next === this.#waiting.length;
  }

  /** Is there something to write? */
  #fill(): boolean {
    if (this.#chunk) return true;
    if (this.#next === this.#waiting.length) return false;
    const first = this.#next;
    let size = 0;
    while (this.#next < this.#waiting.length && size < CHUNK) size += this.#waiting[this.#next++]!.length;
    const lines = this.#next - first;
    this.#chunk = Buffer.from(lines === 1 ? this.#waiting[first]! : this.#waiting.slice(first, this.#next).join(''));
    this.#waitingSize -= size + lines * LINE_OVERHEAD;
    if (this.#isGathering) this.#wroteAt = this.#clock.monotonic();
    if (this.#next === this.#waiting.length) {
      this.#waiting.length = 0;
      this.#next = 0;
    } else if (this.#next > 1_000) {
      this.#waiting.splice(0, this.#next);
      this.#next = 0;
    }
    return true;
  }

  #onWritten(error: NodeJS.ErrnoException | null, written: number): void {
    this.#isWriting = false;
    if (error || written === 0) this.#tryLater(error ? codeOf(error) : 'EAGAIN');
    else {
      this.#advance(written);
      this.#trouble = undefined;
      this.#pollMs = POLL_MS;
      if (this.#lost.lines > 0) this.#tellLostInTime();
    }
    // What came while another thread wrote has not waited its time yet.
    if (this.#isGathering && this.#chunk === undefined && this.#waitingSize < CHUNK && this.#onEmpty.length === 0) {
      if (this.#waitingSize > 0) this.#schedule();
    } else this.#pump();
  }

  #advance(written: number): void {
    const chunk = this.#chunk!;
    this.#chunk = written === chunk.length ? undefined : chunk.subarray(written);
  }

  #tryLater(code: string): void {
    const isNew = this.#trouble === undefined || this.#trouble !== code;
    this.#trouble = code;
    const isBlocked = code === 'EAGAIN';
    this.#timer = this.#clock.setTimeout(
      () => {
        this.#timer = undefined;
        this.#pump();
      },
      isBlocked ? this.#pollMs : RETRY_MS,
    );
    if (isBlocked) this.#pollMs = Math.min(2 * this.#pollMs, MAX_POLL_MS);
    else if (isNew) this.listener?.onTrouble({ output: this.#name, code });
  }

  #tellLostInTime(): void {
    const waitMs = this.#nextNoticeAt - this.#clock.monotonic();
    if (waitMs <= 0) {
      this.#tellLost();
      return;
    }
    if (this.#noticeTimer !== undefined) return;
    this.#noticeTimer = this.#clock.setTimeout(() => {
      this.#noticeTimer = undefined;
      if (this.#lost.lines > 0 && this.#trouble === undefined) this.#tellLost();
    }, waitMs);
  }

  #tellLost(): void {
    const lost = this.#lost;
    this.#lost = { lines: 0, securityLines: 0, code: '' };
    this.#nextNoticeAt = this.#clock.monotonic() + NOTICE_EVERY_MS;
    this.listener?.onLost({ output: this.#name, ...lost });
  }
}

function codeOf(error: unknown): string {
  return (error as Partial<NodeJS.ErrnoException> | null)?.code ?? 'EIO';
}

function countLines(bytes: Uint8Array): number {
  let lines = 0;
  for (let at = bytes.indexOf(10); at !== -1; at = bytes.indexOf(10, at + 1)) lines++;
  return lines;
}
