import { setImmediate as turn } from 'node:timers/promises';
import type { Clock, Timer } from '../../../base/clock.ts';
import { type Logger, sidPrefix } from '../../../base/logger.ts';
import { RecentMap } from '../../../base/recent-map.ts';
import type { Ledger } from '../../../session/ledger.ts';
import { ExpiryWatch, UNWATCHED, type Watched } from '../../../session/life/expiry-watch.ts';
import { type SessionSocket, SessionSockets } from '../../../websocket/session-sockets.ts';

export interface ObservedSessionsOptions {
  /** Name of the upstream, which the keys contain already: for the channel and the log. */
  readonly upstream: string;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Time without an answer that accepts the session, after which it is not live any more. */
  readonly idleTimeoutMs: number;
  /** What becomes of the sockets of a session that gets another id. */
  readonly onReplace: 'close' | 'rebind';
  /** It has been learned which server a session is on. */
  readonly onPlace?: ((key: string, server: string) => void) | undefined;
}

/** What a socket does with the session that it came in with, or that has taken its place. */
export interface AttachedSocket {
  /** The session was used. */
  touch(): void;
  release(): void;
}

/** What this process knows of a session. Times are monotonic. */
interface Entry {
  isLive: boolean;
  /** The URL of the server that answered last. */
  server: string;
  /** When it was used here; `-Infinity`: not yet. */
  usedAt: number;
  /** When it was last used in any process, by what the ledger said when it was last asked. */
  usedElsewhereAt: number;
  /** When the ledger was told from here that it is live; `-Infinity`: not yet. */
  writtenAt: number;
  /** When the ledger was asked whether it is over. */
  checkedAt: number;
  /** Of what is over: the session that took its place. */
  successor?: string | undefined;
}

/** Sessions that this process knows something of. For others the ledger is asked. */
const MAX_ENTRIES = 10_000;
/** What is known is as old as this share of the idle time, at most ... */
const SHARE_OF_IDLE = 0.1;
/** ... and not older than this. */
const MAX_STEP_MS = 60_000;
const MAX_TTL_MS = 400 * 86_400_000;
/** Sessions taken over within one idle time that the backend was never seen to begin: anybody can make up an id. */
const MAX_ACCEPTED = 100_000;
/** So many are looked at together. */
const LOOK_TOGETHER = 50;
const NEVER = Number.NEGATIVE_INFINITY;
/** Where clocks differ: until it is asked again about a session that is live, and over by its time. */
const SKEW_PAUSE_MS = 1_000;
/** A chain of ids that took each other's place is not followed for longer. */
const MAX_SUCCESSORS = 16;

/**
 * The sessions of one upstream that are live, as far as could be seen, and the sockets that came in with them.
 *
 * What is live and what is over are facts in the ledger, so that it holds for every process and after a restart, as far
 * as the ledger does. That a session is over outweighs that it is live: a request that was under way cannot bring it
 * back. The ledger is asked and told at most once for each session and step of a tenth of the idle time or 60 s,
 * whichever is less. What it keeps of a live session ends with the idle time after the last use that it knows, and it
 * is told of each use before that time is over: so a session, and its sockets, end on time.
 */
export class ObservedSessions {
  readonly #options: ObservedSessionsOptions;
  readonly #stepMs: number;
  /** The least recently used first. */
  readonly #entries = new RecentMap<string, Entry>(MAX_ENTRIES);
  readonly #reading = new Map<string, Promise<boolean>>();
  readonly #sockets = new SessionSockets<ObservedSocket>();
  /** One for each session that has sockets. */
  readonly #places = new Map<string, Place>();
  readonly #expiry: ExpiryWatch<Place>;
  /** Used since the ledger was told. */
  readonly #untold = new Map<string, Entry>();
  #telling: Timer | undefined;
  /** What is over and could not be written: key and successor. */
  readonly #unwritten = new Map<string, string | undefined>();
  /** What the ledger is being told or asked now. */
  readonly #tries = new Set<Promise<boolean>>();
  #accepted = { since: NEVER, count: 0 };
  #unsubscribe: (() => Promise<void>) | undefined;
  #timer: Timer | undefined;
  #isClosed = false;
  #onEmpty: (() => void)[] = [];

  constructor(options: ObservedSessionsOptions) {
    this.#options = options;
    this.#stepMs = Math.min(options.idleTimeoutMs * SHARE_OF_IDLE, MAX_STEP_MS);
    const { clock, logger, upstream } = options;
    this.#expiry = new ExpiryWatch({
      clock,
      now: () => clock.monotonic(),
      expiresAt: ({ key }) => this.#expiryOf(key),
      ask: place => this.#readAgain(place),
      onOutage: error =>
        logger.warn({ err: error, upstream }, 'it is not known whether sessions with sockets are over; trying again'),
    });
  }

  /** Begins to hear of what other processes see. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE. */
  async start(): Promise<void> {
    this.#unsubscribe = await this.#options.ledger.subscribe(this.#channel, message => {
      const { key, successor } = JSON.parse(message) as { key: string; successor?: string };
      this.#markOver(key, successor);
    });
  }

  /**
   * Notes in the ledger that the sessions of this upstream are known from now on. @returns false when they were not
   * before: at the first start, or because the ledger has lost what it knew. @throws {HoldfastError}
   * ERR_SESSION_STORE_UNAVAILABLE.
   */
  async beginKnowing(): Promise<boolean> {
    const { ledger, upstream } = this.#options;
    const isNew = await ledger.putIfAbsent(knownFact(upstream), '1', MAX_TTL_MS);
    if (!isNew) await ledger.put(knownFact(upstream), '1', MAX_TTL_MS);
    return !isNew;
  }

  /** Resolves when no socket is attached. */
  async emptied(): Promise<void> {
    while (this.#sockets.size > 0) await new Promise<void>(resolve => this.#onEmpty.push(resolve));
  }

  /** Tells the ledger what it has not heard yet. Never rejects; the ledger may be closed when it has resolved. */
  async close(): Promise<void> {
    const telling = this.#tellUses();
    this.#isClosed = true;
    this.#expiry.close();
    this.#options.clock.clearTimeout(this.#timer);
    const unsubscribing = this.#unsubscribe?.().catch(() => {}); // the ledger is gone, and every subscription with it
    for (const [key, successor] of this.#unwritten) void this.#try('end', key, () => this.#tellOver(key, successor));
    await Promise.all([telling, unsubscribing]);
    while (this.#tries.size > 0) await Promise.all(this.#tries);
  }

  /** @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when it is not known. */
  async isLive(key: string): Promise<boolean> {
    const entry = this.#entries.get(key);
    if (entry?.isLive && this.#now < Math.min(entry.checkedAt + this.#stepMs, entry.usedAt + this.#idleMs)) {
      this.#entries.set(key, entry);
      return true;
    }
    const reading = this.#reading.get(key) ?? this.#read(key).finally(() => this.#reading.delete(key));
    this.#reading.set(key, reading);
    return reading;
  }

  /**
   * The backend has given this id to a client that did not show it: it is live, whatever it was before. Never rejects.
   */
  async issued(key: string, server: string): Promise<void> {
    const entry = this.#enter(key, server);
    this.#options.onPlace?.(key, server);
    await this.#try('begin', key, async () => {
      await this.#options.ledger.take(overFact(key));
      await this.#write(key, entry);
    });
  }

  /** The backend has accepted an id that was not known to be live. Never rejects. @returns whether it is live now. */
  async accepted(key: string, server: string): Promise<boolean> {
    const known = this.#entries.get(key);
    if (known || !this.#mayAccept()) return known?.isLive ?? false;
    const entry = this.#enter(key, server);
    await this.#try('begin', key, () => this.#write(key, entry));
    return this.#entries.get(key)?.isLive ?? false;
  }

  /** A session that was found live was used. The ledger is told now and then, and nobody waits for it. */
  used(key: string, server: string): void {
    const entry = this.#entries.get(key) ?? this.#enter(key, server);
    if (!entry.isLive) return;
    entry.usedAt = this.#now;
    entry.server = server;
    if (this.#now >= entry.writtenAt + this.#stepMs) void this.#try('keep', key, () => this.#write(key, entry));
    else this.#tellLater(key, entry);
  }

  /**
   * The backend has ended the session, or another one took its place. Its sockets close everywhere, or move. Never
   * rejects; what the ledger could not be told is told again and again.
   */
  async over(key: string, successor?: string): Promise<void> {
    this.#markOver(key, successor);
    const isTold = await this.#try('end', key, () => this.#tellOver(key, successor));
    if (isTold || this.#isClosed) return;
    if (this.#unwritten.size < MAX_ENTRIES) this.#unwritten.set(key, successor);
    this.#watch();
  }

  /**
   * Attaches a socket to the session that it came in with.
   *
   * @param server The URL of the one that it leads to.
   */
  attach(key: string, server: string, socket: SessionSocket): AttachedSocket {
    let place = key;
    for (let i = 0; i < MAX_SUCCESSORS && this.#entries.get(place)?.isLive === false; i++) {
      const { successor } = this.#entries.get(place)!;
      if (successor === undefined || this.#options.onReplace === 'close') break;
      place = successor;
    }
    const attached = new ObservedSocket(place, socket);
    this.#add(attached);
    // It may have ended while the backend was dialled.
    const entry = this.#entries.get(place);
    if (entry?.isLive === false) this.#sockets.closeAll(place, entry.successor === undefined ? 'ended' : 'renewed');
    this.#watch();
    return {
      touch: () => {
        // What still comes on a socket that is closing says nothing, nor what comes after the end while that is being
        // found out.
        const isOver =
          this.#now >= (this.#places.get(attached.key)?.livesUntil ?? NEVER) &&
          this.#now >= this.#expiryOf(attached.key);
        if (!attached.isClosing && !isOver) this.used(attached.key, server);
      },
      release: () => this.#delete(attached),
    };
  }

  #add(attached: ObservedSocket): void {
    const { key } = attached;
    this.#sockets.add(key, attached);
    if (this.#places.has(key)) return;
    const place = { key, ...UNWATCHED };
    this.#places.set(key, place);
    this.#expiry.schedule(place, Math.max(this.#now, this.#nextLookAt(key)));
  }

  #delete(attached: ObservedSocket): void {
    const { key } = attached;
    this.#sockets.remove(key, attached);
    if (this.#sockets.size === 0) for (const resolve of this.#onEmpty.splice(0)) resolve();
    if (this.#sockets.has(key) || !this.#places.has(key)) return;
    this.#expiry.cancel(this.#places.get(key)!);
    this.#places.delete(key);
  }

  /** As far as this process knows. */
  #expiryOf(key: string): number {
    const entry = this.#entries.get(key);
    return entry?.isLive ? entry.usedAt + this.#idleMs : NEVER;
  }

  /** A session with sockets that was not used here for its idle time: another process may have used it. */
  async #readAgain({ key }: Place): Promise<number | undefined> {
    if (!(await this.#isStillLive(key))) return undefined;
    const next = this.#nextLookAt(key);
    // Live, and over by the time that another process has written: their clocks differ.
    return next > this.#now ? next : this.#now + Math.min(this.#stepMs, SKEW_PAUSE_MS);
  }

  #nextLookAt(key: string): number {
    const { usedElsewhereAt = NEVER } = this.#entries.get(key) ?? {};
    // Not later than in a step, because clocks may differ.
    return Math.max(this.#expiryOf(key), Math.min(usedElsewhereAt + this.#idleMs, this.#now + this.#stepMs));
  }

  /** What the ledger says of a session with sockets. They close, or move to its successor, when it is over. */
  async #isStillLive(key: string): Promise<boolean> {
    if (await this.#read(key)) return true;
    const successor = await this.#options.ledger.get(overFact(key));
    if (successor === undefined) this.#sockets.closeAll(key, 'ended');
    else this.#markOver(key, successor || undefined);
    return false;
  }

  get #channel(): string {
    return `observed ${this.#options.upstream}`;
  }

  get #idleMs(): number {
    return this.#options.idleTimeoutMs;
  }

  get #now(): number {
    return this.#options.clock.monotonic();
  }

  /** What the ledger says. */
  async #read(key: string): Promise<boolean> {
    const { ledger, onPlace } = this.#options;
    const known = this.#entries.get(key);
    const fact = await ledger.get(liveFact(key));
    if (fact === undefined) {
      if (!known?.isLive) return false;
      if (this.#now < known.usedAt + this.#idleMs) {
        // It was used here, and the ledger could not be told, or has forgotten.
        await this.#write(key, known);
        return this.#entries.get(key)?.isLive ?? false;
      }
      if (this.#entries.get(key) === known) this.#entries.delete(key);
      return false;
    }
    const successor = await ledger.get(overFact(key));
    if (successor !== undefined) {
      this.#markOver(key, successor || undefined);
      return false;
    }
    const now = this.#now;
    const { server, usedAgoMs } = this.#parse(fact);
    const usedElsewhereAt = now - usedAgoMs;
    const entry = this.#entries.get(key);
    // It may be over since the ledger answered.
    if (entry && entry !== known && !entry.isLive) return false;
    if (entry?.isLive) {
      entry.checkedAt = now;
      entry.usedElsewhereAt = usedElsewhereAt;
      this.#entries.set(key, entry);
      return true;
    }
    onPlace?.(key, server);
    this.#entries.set(key, { isLive: true, server, checkedAt: now, usedAt: NEVER, usedElsewhereAt, writtenAt: NEVER });
    return true;
  }

  /**
   * `<milliseconds since the epoch of the last use> <URL of the server>`. The time is by the clock of the process that
   * has written it.
   */
  #parse(fact: string): { server: string; usedAgoMs: number } {
    const space = fact.indexOf(' ');
    // Written before facts had a time.
    if (!/^\d+ /.test(fact)) return { server: fact, usedAgoMs: 0 };
    return { server: fact.slice(space + 1), usedAgoMs: this.#options.clock.now() - Number(fact.slice(0, space)) };
  }

  #tellLater(key: string, entry: Entry): void {
    this.#untold.set(key, entry);
    if (!this.#isClosed) this.#telling ??= this.#options.clock.setTimeout(() => void this.#tellUses(), this.#stepMs);
  }

  async #tellUses(): Promise<void> {
    this.#options.clock.clearTimeout(this.#telling);
    this.#telling = undefined;
    const untold = [...this.#untold];
    this.#untold.clear();
    for (let start = 0; start < untold.length; start += LOOK_TOGETHER) {
      const batch = untold
        .slice(start, start + LOOK_TOGETHER)
        .filter(([, { usedAt, writtenAt }]) => usedAt > writtenAt);
      await Promise.all(batch.map(([key, entry]) => this.#try('keep', key, () => this.#write(key, entry))));
      await turn();
    }
  }

  async #write(key: string, entry: Entry): Promise<void> {
    const { clock, ledger } = this.#options;
    const now = this.#now;
    entry.writtenAt = now; // now, so that nobody else writes it meanwhile
    try {
      const usedAt = Math.round(clock.now() - (now - entry.usedAt));
      const ttlMs = Math.min(Math.max(1, entry.usedAt + this.#idleMs - now), MAX_TTL_MS);
      await ledger.put(liveFact(key), `${usedAt} ${entry.server}`, ttlMs);
      const successor = await ledger.get(overFact(key));
      entry.checkedAt = now;
      if (successor !== undefined) this.#markOver(key, successor || undefined);
    } catch (error) {
      entry.writtenAt = NEVER;
      throw error;
    }
  }

  async #tellOver(key: string, successor: string | undefined): Promise<void> {
    const { ledger } = this.#options;
    // It outlives whatever a process that has not heard of it may write.
    await ledger.put(overFact(key), successor ?? '', Math.min(2 * (this.#idleMs + this.#stepMs), MAX_TTL_MS));
    await ledger.take(liveFact(key));
    await ledger.publish(this.#channel, JSON.stringify({ key, successor }));
  }

  #markOver(key: string, successor: string | undefined): void {
    const now = this.#now;
    const times = { usedAt: now, usedElsewhereAt: NEVER, writtenAt: now, checkedAt: now };
    this.#entries.set(key, { isLive: false, server: '', ...times, successor });
    if (successor !== undefined && this.#options.onReplace === 'rebind') this.#rebind(key, successor);
    else this.#sockets.closeAll(key, successor === undefined ? 'ended' : 'renewed');
  }

  #rebind(from: string, to: string): void {
    for (const attached of [...(this.#sockets.get(from) ?? [])]) {
      this.#delete(attached);
      attached.key = to;
      this.#add(attached);
    }
  }

  #enter(key: string, server: string): Entry {
    const now = this.#now;
    const entry = { isLive: true, server, usedAt: now, usedElsewhereAt: NEVER, writtenAt: NEVER, checkedAt: now };
    this.#entries.set(key, entry);
    return entry;
  }

  #mayAccept(): boolean {
    const { clock, logger, upstream } = this.#options;
    if (clock.monotonic() >= this.#accepted.since + this.#idleMs) this.#accepted = { since: this.#now, count: 0 };
    this.#accepted.count++;
    if (this.#accepted.count === MAX_ACCEPTED + 1)
      logger.warn(
        { upstream },
        `more than ${MAX_ACCEPTED} sessions within the idle time that the backend was not seen to begin; for now the others are not taken for live`,
      );
    return this.#accepted.count <= MAX_ACCEPTED;
  }

  /** Looks at the sessions that have sockets: an event may be lost, and silence tells nobody. */
  #watch(): void {
    if (this.#isClosed || (this.#sockets.size === 0 && this.#unwritten.size === 0)) return;
    this.#timer ??= this.#options.clock.setTimeout(() => {
      void this.#look().finally(() => {
        this.#timer = undefined;
        this.#watch();
      });
    }, this.#stepMs);
  }

  async #look(): Promise<void> {
    for (const [key, successor] of this.#unwritten) {
      if (!(await this.#try('end', key, () => this.#tellOver(key, successor)))) return; // an outage
      this.#unwritten.delete(key);
    }
    const keys = [...this.#sockets.keys()];
    for (let start = 0; start < keys.length && !this.#isClosed; start += LOOK_TOGETHER) {
      const batch = keys.slice(start, start + LOOK_TOGETHER);
      const looks = await Promise.all(
        batch.map(key => this.#try('look at', key, async () => void (await this.#isStillLive(key)))),
      );
      if (!looks.includes(true)) return; // an outage: it would be the same for the others, and ends nobody's session
      await turn();
    }
  }

  /** @returns false when the ledger could not be reached, which is logged. */
  #try(what: string, key: string, work: () => Promise<void>): Promise<boolean> {
    const trying = this.#succeeds(what, key, work).finally(() => this.#tries.delete(trying));
    this.#tries.add(trying);
    return trying;
  }

  async #succeeds(what: string, key: string, work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      const { logger, upstream } = this.#options;
      logger.warn({ err: error, upstream, sid: sidPrefix(key) }, `could not ${what} an observed session`);
      return false;
    }
  }
}

/** The sockets of one session, whose time is watched. */
interface Place extends Watched {
  readonly key: string;
}

/** A socket, and the session that it belongs to now. */
class ObservedSocket implements SessionSocket {
  key: string;
  isClosing = false;
  readonly #socket: SessionSocket;

  constructor(key: string, socket: SessionSocket) {
    this.key = key;
    this.#socket = socket;
  }

  /** Once: whoever is told again would be given more time. */
  close(code: number, reason: string): void {
    if (this.isClosing) return;
    this.isClosing = true;
    this.#socket.close(code, reason);
  }
}

/** It is there while the ledger has forgotten nothing. */
function knownFact(upstream: string): string {
  return `observed known ${upstream}`;
}

/** The value says when it was used last, and which server answered. */
function liveFact(key: string): string {
  return `observed live ${key}`;
}

/** The value is the successor, or empty. */
function overFact(key: string): string {
  return `observed over ${key}`;
}
