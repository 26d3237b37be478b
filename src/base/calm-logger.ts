import { callListener } from './call-listener.ts';
import type { Clock, Timer } from './clock.ts';
import { getOrInsert } from './get-or-insert.ts';
import { LINES_DROPPED, type Logger, type LogLevel, type LogPart, silentLogger } from './logger.ts';
import { isSecurityEvent } from './security-events.ts';

/** How long lines of one kind are counted before the count is written. */
const WINDOW_MS = 10_000;
/**
 * Kinds of ordinary lines of one level at a time. The rest is one kind, so that whatever varies in a line makes a
 * bounded number of them.
 */
const MAX_KINDS = 200;
/** Security events of one kind and client address in a window that have a line each. */
const LINES_PER_ADDRESS = 20;
/** The same of all addresses together: also the most addresses that are remembered for each kind of event. */
const LINES_OF_ALL = 1_000;
/** Of repeated failures, how many of the ids that clients were shown are kept. */
const MAX_IDS = 20;

type Fields = Readonly<Record<string, unknown>>;

interface Line {
  readonly level: LogLevel;
  readonly part: LogPart | undefined;
  readonly fields: object;
  readonly message: string;
}

interface Kind {
  readonly level: LogLevel;
  readonly part: LogPart | undefined;
  /** When its count is due, by the monotonic clock. */
  until: number;
  /** Lines that may still be written in this window. */
  left: number;
  repeated: number;
  ids: unknown[] | undefined;
  /** Of the latest line. */
  fields: object;
  message: string;
  readonly isSecurity: boolean;
  /** Stands for all that found no place of their own. */
  readonly isRest: boolean;
}

/** Hears the fields of each security event, `event` and `address` among them where it is known, and its message. */
export type SecurityListener = (fields: Readonly<Record<string, unknown>>, message: string) => void;

/**
 * A logger in front of another: a failure that repeats is one line and then a count every 10 seconds, and no line ever
 * throws.
 *
 * Ordinary lines are of one kind when they have the same level, event, code, upstream, server and reason, and for an
 * error without a code the same place in the program; not what a client can choose, as paths, addresses and texts.
 * Security events have a line each, up to 20 of one kind from one address (an IPv6 address counts by its /64), and
 * 1,000 of one kind from all addresses, in 10 seconds; then they are counted. Those without an address have 1,000 of
 * each kind for themselves. Who listens hears all of them.
 *
 * A line that counts is the latest of its kind with `repeated`, the number of lines that were left out since the line
 * before, and up to 20 of their `ids`.
 */
export class CalmLogger implements Logger {
  readonly #logger: Logger;
  readonly #clock: Clock;
  /** In the order of their `until`. */
  readonly #kinds = new Map<string, Kind>();
  readonly #sizes: Record<LogLevel, number> = { debug: 0, info: 0, warn: 0, error: 0 };
  /** By the event. */
  readonly #security = new Map<unknown, { until: number; left: number }>();
  readonly #securityLogger: Logger;
  readonly #listeners = new Set<SecurityListener>();
  /** Has the counts; the loggers of parts take their lines to it. */
  readonly #whole: CalmLogger;
  readonly #part: LogPart | undefined;
  /** Each part has one. */
  readonly #ofParts = new Map<LogPart, CalmLogger>();
  #timer: Timer | undefined;

  /**
   * @param securityLogger Takes the security events. Default: the same.
   * @param whole Has the counts, for the logger of a part. Default: this one.
   */
  constructor(
    logger: Logger,
    clock: Clock,
    securityLogger: Logger = logger,
    whole?: { readonly calm: CalmLogger; readonly part: LogPart },
  ) {
    this.#logger = logger;
    this.#clock = clock;
    this.#securityLogger = securityLogger;
    this.#whole = whole?.calm ?? this;
    this.#part = whole?.part;
  }

  /** The same logger for a part of the program: its lines say so in `part`, and the part has a level of its own. */
  of(part: LogPart): CalmLogger {
    return getOrInsert(this.#whole.#ofParts, part, () => {
      return new CalmLogger(this.#logger, this.#clock, this.#securityLogger, { calm: this.#whole, part });
    });
  }

  debug(fields: object, message: string): void {
    this.#whole.#take('debug', fields, message, this.#part);
  }

  info(fields: object, message: string): void {
    this.#whole.#take('info', fields, message, this.#part);
  }

  warn(fields: object, message: string): void {
    this.#whole.#take('warn', fields, message, this.#part);
  }

  error(fields: object, message: string): void {
    this.#whole.#take('error', fields, message, this.#part);
  }

  /** The logger itself when it is one already. */
  static over(logger: Logger, clock: Clock): CalmLogger {
    return logger instanceof CalmLogger ? logger : new CalmLogger(logger, clock);
  }

  isLevelEnabled(level: LogLevel): boolean {
    return isEnabled(this.#logger, level, this.#part);
  }

  /** Calls `listener` for each security event, whatever becomes of its line. @returns ends that. */
  listen(listener: SecurityListener): () => void {
    const own: SecurityListener = (fields, message) => listener(fields, message);
    this.#whole.#listeners.add(own);
    return () => void this.#whole.#listeners.delete(own);
  }

  /** Writes the counts that are not written yet. What comes later is logged as before. */
  flush(): void {
    if (this.#whole !== this) return this.#whole.flush();
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const kind of this.#kinds.values()) this.#writeCount(kind);
    this.#kinds.clear();
    for (const level of Object.keys(this.#sizes) as LogLevel[]) this.#sizes[level] = 0;
  }

  #take(level: LogLevel, fields: object, message: string, part: LogPart | undefined): void {
    let isSecurity = false;
    try {
      isSecurity = isSecurityEvent(fields);
      if (isEnabled(isSecurity ? this.#securityLogger : this.#logger, level, part))
        this.#log({ level, part, fields, message }, isSecurity);
    } catch {
      // Somebody else's object in the fields. Nothing that was to be logged is worth a request.
    }
    // Behind its line, so that what they make of it stands below.
    if (isSecurity) this.#tell(fields as Fields, message);
  }

  #tell(fields: Fields, message: string): void {
    for (const listener of this.#listeners) callListener(() => listener(fields, message), nothing);
  }

  #log(line: Line, isSecurity: boolean): void {
    const { fields, message } = line;
    if (eventOf(fields) === LINES_DROPPED) return this.#write(line);
    const kind = isSecurity ? this.#securityKind(line) : this.#ordinaryKind(line);
    if (kind.left > 0) {
      kind.left--;
      if (isSecurity && hasAddress(fields)) this.#security.get(eventOf(fields))!.left--;
      return this.#write(line);
    }
    kind.repeated++;
    kind.fields = fields;
    kind.message = message;
    const { id } = fields as { id?: unknown };
    if (id === undefined) return;
    kind.ids ??= [];
    if (kind.ids.length < MAX_IDS) kind.ids.push(id);
  }

  #ordinaryKind({ level, part, fields, message }: Line): Kind {
    const key = `${level}\0${kindOf(fields, message)}`;
    const known = this.#kinds.get(key);
    if (known) return known;
    const isRest = this.#sizes[level] >= MAX_KINDS;
    if (!isRest) this.#sizes[level]++;
    const place = isRest ? level : key;
    return (
      this.#kinds.get(place) ?? this.#begin(place, { level, part, left: 1, isSecurity: false, isRest, fields, message })
    );
  }

  #securityKind({ level, part, fields, message }: Line): Kind {
    const { event, address } = fields as { event?: unknown; address?: unknown };
    const now = this.#clock.monotonic();
    let ofAll = this.#security.get(event);
    if (!ofAll || now >= ofAll.until) {
      ofAll = { until: now + WINDOW_MS, left: LINES_OF_ALL };
      this.#security.set(event, ofAll);
    }
    const key = `${event}\0${typeof address === 'string' ? network(address) : ''}`;
    const known = this.#kinds.get(key);
    // What is said of sessions has no address, and must not use up what is left for those that have one.
    const isRest = hasAddress(fields) && ofAll.left === 0;
    if (known && (known.left === 0 || !isRest)) return known;
    const place = isRest ? `${event}` : key;
    const left = isRest ? 0 : address === undefined ? LINES_OF_ALL : LINES_PER_ADDRESS;
    return (
      this.#kinds.get(place) ?? this.#begin(place, { level, part, left, isSecurity: true, isRest, fields, message })
    );
  }

  #begin(key: string, kind: Omit<Kind, 'until' | 'repeated' | 'ids'>): Kind {
    const begun: Kind = { ...kind, until: this.#clock.monotonic() + WINDOW_MS, repeated: 0, ids: undefined };
    this.#kinds.set(key, begun);
    this.#timer ??= this.#clock.setTimeout(() => this.#onDue(), WINDOW_MS);
    return begun;
  }

  #onDue(): void {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    for (const [key, kind] of this.#kinds) {
      if (kind.until > now) {
        this.#timer = this.#clock.setTimeout(() => this.#onDue(), kind.until - now);
        return;
      }
      this.#kinds.delete(key);
      const goesOn = kind.repeated > 0 && !kind.isSecurity;
      this.#writeCount(kind);
      if (goesOn) {
        // The count is its one line of the next window, too.
        kind.until = now + WINDOW_MS;
        this.#kinds.set(key, kind);
      } else if (!kind.isSecurity && !kind.isRest) this.#sizes[kind.level]--;
    }
  }

  #writeCount(kind: Kind): void {
    const { level, part, fields, message, repeated, ids, isRest, isSecurity } = kind;
    if (repeated === 0) return;
    kind.repeated = 0;
    kind.ids = undefined;
    try {
      const ofMany = isRest && isSecurity && { address: undefined };
      this.#write({ level, part, fields: { ...fields, ...ofMany, repeated, ...(ids && { ids }) }, message });
    } catch {
      // As above.
    }
  }

  #write({ level, part, fields, message }: Line): void {
    const logger = isSecurityEvent(fields) ? this.#securityLogger : this.#logger;
    const outcome = logger[level](part === undefined ? fields : { ...fields, part }, message) as unknown;
    // A method of the user's own may be asynchronous.
    if (outcome instanceof Promise) outcome.catch(() => {});
  }
}

const nothing = () => {};

function isEnabled(logger: Logger, level: LogLevel, part: LogPart | undefined): boolean {
  return logger !== silentLogger && (logger.isLevelEnabled?.(level, part) ?? true);
}

function eventOf(fields: object): unknown {
  return (fields as { event?: unknown }).event;
}

/** Has the client a part in it? */
function hasAddress(fields: object): boolean {
  return (fields as { address?: unknown }).address !== undefined;
}

/** What lines of one kind have in common. */
function kindOf(fields: object, message: string): string {
  const { event, code, status, failure, reason, upstream, server, callback, err } = fields as Record<string, unknown>;
  const cause = errorKind(err);
  // With one of these the message only adds what varies.
  const text = event ?? (code === undefined ? message : '');
  return [text, code, status, failure, reason, upstream, server, callback, cause].join('\0').slice(0, 1_000);
}

function errorKind(error: unknown): string {
  if (typeof error === 'string') return /^[A-Z][A-Z0-9_]*$/.test(error) ? error : '';
  if (typeof error !== 'object' || error === null) return '';
  const { code, name, message, stack } = error as Record<string, unknown>;
  if (typeof code === 'string') return code;
  if (typeof stack !== 'string' || typeof message !== 'string') return String(name);
  // Where it was thrown. The message stands before that, and may have been chosen by a client.
  const start = stack.indexOf('\n    at ', Math.max(0, stack.indexOf(message)) + message.length);
  return `${name}${start === -1 ? '' : stack.slice(start).split('\n', 5).join()}`;
}

/** What an address is counted under: a client with one IPv6 address has 2^64 of them. */
function network(address: string): string {
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - after.length);
  return [...groups, ...Array<string>(zeros).fill('0'), ...after].slice(0, 4).join(':');
}
