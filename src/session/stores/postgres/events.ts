import { randomBytes } from 'node:crypto';
import { callListener } from '../../../base/call-listener.ts';
import { systemClock as clock, type Timer } from '../../../base/clock.ts';
import { setDeadline } from '../../../base/deadlines.ts';
import type { PgClientLike } from '../../../drivers/postgres.ts';
import { toAsciiJson } from './encoding.ts';

/** A notification carries less than 8,000 bytes. */
const PIECE = 7_900;
const PING_EVERY_MS = 400;
const PING_TIMEOUT_MS = 400;
/** From when a connection that has not answered counts as silent. */
const SILENT_AFTER_MS = 1_000;
const FIRST_PAUSE_MS = 25;
const LONGEST_PAUSE_MS = 1_000;

const origin = randomBytes(6).toString('base64url');
let count = 0;

/**
 * A text as payloads of notifications: one, or the pieces of a long one. They are of one transaction, hence told in
 * order and together. Each is unlike every other, because PostgreSQL drops a notification that equals an earlier one of
 * its transaction.
 */
export function toPayloads(text: string): string[] {
  const json = toAsciiJson(text);
  const id = `${origin}${(count++).toString(36)}`;
  const pieces = Math.ceil(json.length / PIECE);
  return Array.from({ length: pieces }, (_, index) => {
    const rest = pieces - index - 1;
    return `${id} ${rest} ${json.slice(index * PIECE, (index + 1) * PIECE)}`;
  });
}

/** Puts payloads together again. */
export class PayloadReader {
  /** The pieces so far, by the id of their text. */
  readonly #parts = new Map<string, string>();

  /** The text, when this is its last piece. */
  read(payload: string): string | undefined {
    const match = /^(\S+) (\d+) (.*)$/s.exec(payload);
    if (!match) return undefined; // somebody else's notification
    const [, id, rest, piece] = match as unknown as [string, string, string, string];
    const json = (this.#parts.get(id) ?? '') + piece;
    if (rest !== '0') {
      this.#parts.set(id, json);
      return undefined;
    }
    this.#parts.delete(id);
    return parse(json);
  }
}

/**
 * Undefined for what is not a text of ours: anybody who may connect may notify, and the beginning of a text may have
 * been before we listened.
 */
function parse(json: string): string | undefined {
  try {
    const text: unknown = JSON.parse(json);
    return typeof text === 'string' ? text : undefined;
  } catch {
    return undefined;
  }
}

/** What is needed of the database. */
export interface PgEventSource {
  connectAlone(): Promise<PgClientLike>;
  deadline<T>(promise: Promise<T>, ms: number, what: string): Promise<T>;
  unavailable(what: string, error: unknown): Error;
}

interface Channel {
  readonly listeners: Set<(text: string) => void>;
  reader: PayloadReader;
}

/** A connection whose queries are sent one after the other. */
class Line {
  readonly client: PgClientLike;
  #last: Promise<unknown> = Promise.resolve();

  constructor(client: PgClientLike) {
    this.client = client;
  }

  query(text: string): Promise<unknown> {
    const answer = this.#last.then(() => this.client.query(text));
    this.#last = answer.catch(() => {});
    return answer;
  }
}

/**
 * Listens to channels on a connection of its own, which it makes when first needed and again whenever it is lost.
 *
 * The connection is asked for a sign of life every 400 ms, so that one that is silently dead is noticed within a
 * second.
 */
export class PgEvents {
  readonly #source: PgEventSource;
  readonly #channels = new Map<string, Channel>();
  #line: Line | undefined;
  #connecting: Promise<Line> | undefined;
  #timer: Timer | undefined;
  /** When the last question was sent that was answered. */
  #aliveAt = Number.NEGATIVE_INFINITY;
  #gaps = 0;
  #isClosed = false;

  constructor(source: PgEventSource) {
    this.#source = source;
  }

  /** False while something may be missed. */
  get isCurrent(): boolean {
    return this.#line !== undefined && clock.monotonic() - this.#aliveAt <= SILENT_AFTER_MS;
  }

  /** Grows when something may have been missed. */
  get gaps(): number {
    return this.#gaps;
  }

  /**
   * Resolves when everything that is notified from now on is told. Nothing is told before the caller has seen that.
   *
   * @returns A function that stops it.
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE.
   */
  async listen(name: string, listener: (text: string) => void): Promise<() => Promise<void>> {
    const early: string[] = [];
    let isTold = false;
    const tell = (text: string) => (isTold ? callListener(() => listener(text)) : early.push(text));
    const channel = this.#channels.get(name) ?? { listeners: new Set(), reader: new PayloadReader() };
    this.#channels.set(name, channel);
    channel.listeners.add(tell);
    const stop = async () => {
      if (!channel.listeners.delete(tell) || channel.listeners.size > 0) return;
      if (this.#channels.get(name) === channel) this.#channels.delete(name);
      const line = this.#line;
      // When it fails the connection is lost, and with it what it listened to.
      if (line)
        await this.#source.deadline(line.query(`UNLISTEN "${name}"`), SILENT_AFTER_MS, 'answer').catch(() => {});
    };
    try {
      // Also when the channel is known already: somebody else's LISTEN may still be on its way.
      await this.#listenOn(await this.#connected(), name);
    } catch (error) {
      await stop();
      throw this.#source.unavailable('listen for events', error);
    }
    setImmediate(() => {
      isTold = true;
      for (const text of early) if (channel.listeners.has(tell)) callListener(() => listener(text));
    });
    return stop;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#channels.clear();
    clock.clearTimeout(this.#timer);
    this.#drop();
    await this.#connecting?.catch(() => {});
  }

  #connected(): Promise<Line> {
    if (this.#line) return Promise.resolve(this.#line);
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #connect(): Promise<Line> {
    const startedAt = clock.monotonic();
    const client = await this.#source.connectAlone();
    const line = new Line(client);
    const onLost = () => {
      if (this.#line === line) this.#lose();
    };
    client.on('error', onLost);
    client.on('end', onLost);
    client.on('notification', ({ channel, payload = '' }) => this.#tell(channel, payload));
    try {
      // What is said here has a time of its own, whatever the server's limit is.
      await this.#source.deadline(line.query('SET statement_timeout = 0'), SILENT_AFTER_MS, 'answer');
      for (const [name, channel] of this.#channels) {
        channel.reader = new PayloadReader(); // the rest of what was begun is lost
        await this.#listenOn(line, name);
      }
      if (this.#isClosed) throw new Error('it is closed');
    } catch (error) {
      client.release(true);
      throw error;
    }
    this.#line = line;
    this.#aliveAt = startedAt;
    this.#ping(line);
    return line;
  }

  async #listenOn(line: Line, name: string): Promise<void> {
    await this.#source.deadline(line.query(`LISTEN "${name}"`), SILENT_AFTER_MS, 'answer');
  }

  #tell(name: string, payload: string): void {
    const channel = this.#channels.get(name);
    const text = channel?.reader.read(payload);
    if (text !== undefined) for (const listener of [...channel!.listeners]) listener(text);
  }

  #ping(line: Line): void {
    const sentAt = clock.monotonic();
    const isStill = () => this.#line === line && !this.#isClosed;
    const deadline = setDeadline(clock, PING_TIMEOUT_MS, () => isStill() && this.#lose());
    line.query('SELECT 1').then(
      () => {
        deadline?.clear();
        if (!isStill()) return;
        this.#aliveAt = sentAt;
        this.#timer = clock.setTimeout(() => isStill() && this.#ping(line), PING_EVERY_MS);
      },
      () => {
        deadline?.clear();
        if (isStill()) this.#lose();
      },
    );
  }

  #lose(): void {
    this.#gaps++;
    this.#drop();
    if (!this.#isClosed) this.#reconnect(FIRST_PAUSE_MS);
  }

  #drop(): void {
    const line = this.#line;
    this.#line = undefined;
    line?.client.release(true);
  }

  #reconnect(pauseMs: number): void {
    clock.clearTimeout(this.#timer);
    this.#timer = clock.setTimeout(() => {
      if (this.#isClosed || this.#line) return;
      this.#connected().catch(() => this.#reconnect(Math.min(pauseMs * 2, LONGEST_PAUSE_MS)));
    }, pauseMs);
  }
}
