import type { Clock, Timer } from '../../base/clock.ts';
import { setDeadline } from '../../base/deadlines.ts';
import type { Logger } from '../../base/logger.ts';
import { Rounds } from '../../base/rounds.ts';
import type { SessionHeader, SessionStore } from '../store.ts';
import { AccessMark } from './access-mark.ts';

/** Last access is written when it moved by this much of the idle time ... */
const SHARE_OF_IDLE = 0.1;
/** ... or by this much, whichever is less. */
const MAX_STEP_MS = 60_000;
const FLUSH_INTERVAL_MS = 1_000;
/** So many are written in one call, which has a time limit. */
const BATCH = 1_000;
/** How often it is looked which requests still run; more often where a session's idle time is short. */
const LOOK_MS = 1_000;
const LEAST_LOOK_MS = 20;
/** So often in a second it is said at once that a session has come here from another process. */
const TAKEOVERS_PER_SECOND = 200;
/** So long a request waits for that at most: a store that is slow to write is no reason to read slowly. */
const TAKEOVER_WAIT_MS = 100;

interface Access {
  at: number;
  /** From when on it is to be written. */
  dueAt: number;
  /** Half-way to the time at which other processes, which do not know of it, end the session: by then it is written. */
  hasToBeAt: number;
  stepMs: number;
  idleMs: number;
  readonly onWritten: ((at: number) => void) | undefined;
  /** The access of another process after which it has come here, if it has. */
  takenOverAt: number;
}

/** A request that runs, and with it its session. */
export interface Use {
  readonly sid: string;
  readonly session: { readonly header: SessionHeader };
  /** Another one of the same session. */
  next: Use | undefined;
}

/**
 * A session with requests that run. Without any it stays until it is looked again: a `Map` whose entries come and go
 * with each request is expensive to collect.
 */
interface Running {
  uses: Use | undefined;
  /** The last access that the store knows. */
  storedAt: number;
  /** One of them has run since it was looked before. */
  isLong: boolean;
}

/** A request that nobody has asked for its session yet. */
export interface Unread {
  /** It takes long. Called once. */
  onLong(): void;
}

/**
 * Its place among those that wait. A `Set` that much goes through keeps what has left it until a full garbage
 * collection: that may be this, and not a whole request.
 */
export interface Waiting {
  unread: Unread | undefined;
}

/** Keeps the last accesses that the store knows. */
interface WrittenAccesses {
  noteAccess(sid: string, at: number): void;
}

/**
 * Last accesses that are not in the store yet, written in batches: at most one write per session and step, however
 * often it is used.
 *
 * Every access reaches the store within one step of the one written before it, and at most a second more; and sooner
 * where the session would otherwise look idle to another process before that, which ends it if it holds sockets of it.
 *
 * A request that runs is use, from its beginning to its end.
 */
export class AccessTimes {
  readonly #store: SessionStore;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #written: WrittenAccesses;
  readonly #meters: { affinityBreaks: number };
  readonly #mark = new AccessMark();
  /** One write at a time: they would take the connections of the store from those who read. */
  readonly #takeoverWrites = new Rounds<string, void>(async round => {
    await this.#writeTakeovers(round.map(({ item }) => item));
    for (const { resolve } of round) resolve();
  }, BATCH);
  #takeovers = 0;
  #takeoversSince = Number.NEGATIVE_INFINITY;
  readonly #accesses = new Map<string, Access>();
  readonly #running = new Map<string, Running>();
  readonly #waiting = new Set<Waiting>();
  #timer: Timer | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #lookTimer: Timer | undefined;
  /** How long the timer that runs was set for, and until when. */
  #lookPauseMs = 0;
  #lookAt = 0;
  #isClosed = false;

  constructor(
    store: SessionStore,
    clock: Clock,
    logger: Logger,
    written: WrittenAccesses,
    meters: { affinityBreaks: number },
  ) {
    this.#store = store;
    this.#clock = clock;
    this.#logger = logger;
    this.#written = written;
    this.#meters = meters;
  }

  /** The time as a last access of this process. */
  marked(time: number): number {
    return this.#mark.at(time);
  }

  /**
   * The session is being used now.
   *
   * @param storedAt The last access that the store knows.
   * @param onWritten Told when the store knows a later one.
   */
  note(
    sid: string,
    { idleTimeoutMs: idleMs = Number.POSITIVE_INFINITY }: Pick<SessionHeader, 'idleTimeoutMs'>,
    storedAt: number,
    onWritten?: (at: number) => void,
  ): void {
    const now = this.#mark.at(this.#clock.now());
    const known = this.#accesses.get(sid);
    if (known) {
      known.at = Math.max(known.at, now); // somebody may have set the clock back
      if (idleMs >= known.idleMs) return;
    }
    const stepMs = Math.min(idleMs * SHARE_OF_IDLE, MAX_STEP_MS);
    const dueAt = Math.max(now, storedAt + stepMs);
    const hasToBeAt = Math.max(dueAt, now + (storedAt + idleMs - now) / 2);
    if (known) Object.assign(known, { dueAt, hasToBeAt, stepMs, idleMs });
    else this.#accesses.set(sid, { at: now, dueAt, hasToBeAt, stepMs, idleMs, onWritten, takenOverAt: 0 });
    this.#schedule(Math.min(FLUSH_INTERVAL_MS, hasToBeAt - now));
  }

  /**
   * After `note` for a request: where another process has used the session last, counts that, and says in the store that
   * it is here now, so that the other one sees it when it has the session again.
   *
   * That is one small write for each break of affinity, at most 200 in a second; those that come while one is under way
   * are one together. What is above that, or takes longer than 100 ms, is written with the others.
   *
   * @param storedAt The last access that the store knows.
   * @returns what to wait for before the request goes on. It never rejects.
   */
  takeOver(sid: string, storedAt: number): Promise<void> | undefined {
    if (!this.#mark.isOther(storedAt)) return undefined;
    const access = this.#accesses.get(sid);
    if (!access || access.takenOverAt >= storedAt) return undefined;
    access.takenOverAt = storedAt;
    // Somebody may have had it in the same millisecond.
    access.at = Math.max(access.at, this.#mark.after(storedAt));
    this.#meters.affinityBreaks++;
    const now = this.#clock.monotonic();
    if (now - this.#takeoversSince >= 1_000) {
      this.#takeoversSince = now;
      this.#takeovers = 0;
    }
    if (++this.#takeovers > TAKEOVERS_PER_SECOND) return undefined;
    return new Promise(resolve => {
      const deadline = setDeadline(this.#clock, TAKEOVER_WAIT_MS, resolve);
      const onOver = () => {
        deadline?.clear();
        resolve();
      };
      // What fails is written with the others.
      this.#takeoverWrites.add(sid).then(onOver, onOver);
    });
  }

  /**
   * A request of the session runs until `end`.
   *
   * @param storedAt The last access that the store knows.
   */
  begin(sid: string, session: Use['session'], storedAt: number): Use {
    const running = this.#running.get(sid);
    const use: Use = { sid, session, next: running?.uses };
    if (running?.uses) running.uses = use;
    else if (running) Object.assign(running, { uses: use, storedAt, isLong: false });
    else this.#running.set(sid, { uses: use, storedAt, isLong: false });
    this.#lookIn(lookPause(session.header.idleTimeoutMs));
    return use;
  }

  end(use: Use): void {
    const { sid } = use;
    const running = this.#running.get(sid);
    if (!running?.uses) return; // it is over
    // Its silence begins now.
    if (running.isLong) this.#noteRunning(sid, running);
    running.uses = without(running.uses, use);
    use.next = undefined;
  }

  /** A request whose session may be asked for later: then it has been in use since now. Until `stopWaiting`. */
  wait(unread: Unread, idleMs: number): Waiting {
    const waiting: Waiting = { unread };
    this.#waiting.add(waiting);
    this.#lookIn(lookPause(idleMs));
    return waiting;
  }

  stopWaiting(waiting: Waiting): void {
    this.#waiting.delete(waiting);
    waiting.unread = undefined;
  }

  /** The last access as far as this process and the store know. */
  latest(sid: string, storedAt: number): number {
    if (this.#running.get(sid)?.uses) return Math.max(storedAt, this.#mark.at(this.#clock.now()));
    return Math.max(storedAt, this.#accesses.get(sid)?.at ?? 0);
  }

  forget(sid: string): void {
    this.#accesses.delete(sid);
    this.#running.delete(sid);
  }

  /**
   * Writes what is due by `now`, by default everything. @throws ERR_SESSION_STORE_UNAVAILABLE; the accesses are kept
   * for the next time.
   */
  async flush(now = Number.POSITIVE_INFINITY): Promise<void> {
    const due: [sid: string, at: number][] = [];
    for (const [sid, { at, dueAt }] of this.#accesses) if (dueAt <= now) due.push([sid, at]);
    for (let start = 0; start < due.length; start += BATCH) await this.#write(due.slice(start, start + BATCH));
  }

  /** As far as nobody has written them meanwhile. */
  async #writeTakeovers(sids: readonly string[]): Promise<void> {
    const batch = new Map<string, number>();
    for (const sid of sids) {
      const access = this.#accesses.get(sid);
      if (access) batch.set(sid, access.at);
    }
    if (batch.size > 0) await this.#write([...batch]);
  }

  async #write(batch: readonly (readonly [sid: string, at: number])[]): Promise<void> {
    await this.#store.touch(new Map(batch));
    for (const [sid, at] of batch) {
      this.#written.noteAccess(sid, at);
      const access = this.#accesses.get(sid);
      if (!access) continue;
      access.onWritten?.(at);
      if (access.at === at) this.#accesses.delete(sid);
      else {
        // Used again meanwhile.
        access.dueAt = at + access.stepMs;
        access.hasToBeAt = at + access.idleMs / 2;
      }
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#clock.clearTimeout(this.#timer);
    this.#clock.clearTimeout(this.#lookTimer);
    this.#timer = undefined;
    await this.flush();
  }

  #lookIn(ms: number): void {
    // Each request comes here, and most know by the pause alone, without a clock.
    if (this.#isClosed || (this.#lookTimer && this.#lookPauseMs <= ms)) return;
    const at = this.#clock.monotonic() + ms;
    if (this.#lookTimer && this.#lookAt <= at) return;
    this.#clock.clearTimeout(this.#lookTimer);
    this.#lookPauseMs = ms;
    this.#lookAt = at;
    this.#lookTimer = this.#clock.setTimeout(() => this.#look(), ms);
  }

  /** Requests that are short are over before it is looked. */
  #look(): void {
    this.#lookTimer = undefined;
    let pauseMs = LOOK_MS;
    for (const [sid, running] of this.#running) {
      if (!running.uses) {
        this.#running.delete(sid);
        continue;
      }
      running.isLong = true;
      pauseMs = Math.min(pauseMs, lookPause(this.#noteRunning(sid, running)));
    }
    for (const waiting of this.#waiting) {
      const { unread } = waiting;
      this.stopWaiting(waiting);
      unread?.onLong();
    }
    if (this.#running.size > 0) this.#lookIn(pauseMs);
  }

  /** @returns the shortest idle time that one of its requests knows. */
  #noteRunning(sid: string, running: Running): number {
    let idleTimeoutMs = Number.POSITIVE_INFINITY;
    for (let use = running.uses; use; use = use.next)
      idleTimeoutMs = Math.min(idleTimeoutMs, use.session.header.idleTimeoutMs ?? Number.POSITIVE_INFINITY);
    this.note(sid, { idleTimeoutMs }, running.storedAt, at => {
      running.storedAt = at;
    });
    return idleTimeoutMs;
  }

  #schedule(ms: number): void {
    const now = this.#clock.now();
    if (this.#isClosed || (this.#timer && this.#timerAt <= now + ms)) return;
    this.#clock.clearTimeout(this.#timer);
    this.#timerAt = now + ms;
    this.#timer = this.#clock.setTimeout(() => void this.#tick(), ms);
  }

  async #tick(): Promise<void> {
    let pauseMs = FLUSH_INTERVAL_MS;
    try {
      await this.flush(this.#clock.now());
      const now = this.#clock.now();
      for (const { hasToBeAt } of this.#accesses.values()) pauseMs = Math.min(pauseMs, Math.max(0, hasToBeAt - now));
    } catch (error) {
      this.#logger.warn({ err: error }, 'last access of sessions not written; trying again');
    }
    this.#timer = undefined;
    if (this.#accesses.size > 0) this.#schedule(pauseMs);
  }
}

function lookPause(idleMs = Number.POSITIVE_INFINITY): number {
  return Math.max(LEAST_LOOK_MS, Math.min(LOOK_MS, idleMs * SHARE_OF_IDLE));
}

/** The list without this one. */
function without(uses: Use | undefined, gone: Use): Use | undefined {
  if (uses === gone) return gone.next;
  for (let use = uses; use; use = use.next) if (use.next === gone) use.next = gone.next;
  return uses;
}
