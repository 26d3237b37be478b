import { isatty } from 'node:tty';
import { CalmLogger } from '../../base/calm-logger.ts';
import { type Clock, systemClock } from '../../base/clock.ts';
import {
  LOG_PARTS,
  type Logger,
  type LogLevel,
  type LogPart,
  type LogThreshold,
  levelRank,
} from '../../base/logger.ts';
import type { LogConfig } from '../../config/config.ts';
import { type AccessLog, AccessLogs, type AccessTarget, accessFormat, guarded } from './access-log.ts';
import type { OwnFields } from './apache-format.ts';
import { hasColours } from './colours.ts';
import { type FollowedLine, Follower, type FollowFilter } from './followers.ts';
import type { LineRank, LineSink } from './line-output.ts';
import { Outputs } from './outputs.ts';
import { type Destination, type Place, readAccess, readSecurityLog, readServerLog } from './places.ts';
import { prettyLine } from './pretty.ts';
import { securityLine } from './security-log.ts';
import { createLogger, type LostLineMeters, lostLines } from './server-log.ts';

export interface LogEnvironment {
  readonly clock?: Clock;
  /** Takes the lines of the server's own log in the place of its destinations. Which levels it has is its own matter. */
  readonly logger?: Logger | undefined;
  /** Takes the lines of the access log in the place of stdout and files. What it throws is ignored. */
  readonly accessLog?: LineSink | undefined;
  /** Events that have no line: somebody has said already what they say. Default: none. */
  readonly without?: readonly string[];
}

/** Where lines of one log go, from which level. */
interface Target {
  readonly level: LogThreshold | undefined;
  write(line: string, rank: LineRank): void;
}

/** The level of lines that no output has and somebody follows. */
const EVERY: LogThreshold = 'debug';
const SILENT = levelRank('silent');

/**
 * The logs of a server: its own, the access log and the log of security events. Where they go, and from which level, can
 * change while it runs.
 *
 * No method but `open` and `reconfigure` throws, and none waits for whoever reads: a log stops no traffic.
 */
export class LogControl {
  /** For all parts, with repeated lines counted. `logger.of(part)` is that of one of them. */
  readonly logger: CalmLogger;
  /** The same without counting: for lines that are of one kind and say different things, as those at the start. */
  readonly uncounted: Logger;
  /** Counts what was dropped. Default: nothing does. */
  meters: LostLineMeters | undefined;
  readonly #clock: Clock;
  readonly #own: Logger | undefined;
  readonly #without: ReadonlySet<unknown>;
  readonly #accessSink: LineSink | undefined;
  readonly #access = new AccessLogs();
  readonly #outputs: Outputs;
  readonly #followers = new Set<Follower>();
  readonly #json: Logger;
  /** The line that `#json` is writing. */
  #line: { readonly level: LogLevel; readonly part: LogPart | undefined } | undefined;
  #config: LogConfig;
  #server: readonly Target[] = [];
  #security: readonly Target[] | undefined;
  #accessTargets: readonly AccessTarget[] = [];
  #places: readonly Destination[] = [];
  #ownFields: OwnFields | undefined;
  /** Set while it runs, until the next configuration. */
  readonly #levels = new Map<LogPart | undefined, LogThreshold>();
  /** For each part the rank of the lowest level that is written or followed. */
  #floors = new Map<LogPart | undefined, number>();

  /**
   * Opens the logs of a configuration.
   *
   * @throws {HoldfastError} ERR_CONFIG_INVALID when a file cannot be written.
   */
  static open(config: LogConfig = {}, environment: LogEnvironment = {}): LogControl {
    return new LogControl(config, environment);
  }

  private constructor(config: LogConfig, { clock = systemClock, logger, accessLog, without = [] }: LogEnvironment) {
    this.#clock = clock;
    this.#config = config;
    this.#own = logger;
    this.#without = new Set(without);
    this.#accessSink = accessLog && guarded(accessLog);
    this.#json = createLogger({ level: 'debug' }, { write: (line, rank) => this.#onLine(line, rank ?? 'ordinary') });
    this.uncounted = this.#serverLogger();
    this.logger = new CalmLogger(this.uncounted, clock, this.#securityLogger());
    this.#outputs = new Outputs(
      lostLines(this.logger, () => this.meters),
      clock,
    );
    try {
      this.reconfigure(config);
    } catch (error) {
      void this.#outputs.close();
      throw error;
    }
  }

  /** Takes the entries of requests and sockets. */
  get accessLog(): AccessLog {
    return this.#access;
  }

  /** Is any of the logs written to this output of the process? */
  writesTo(to: 'stdout' | 'stderr'): boolean {
    return this.#places.some(({ place }) => 'to' in place && place.to === to);
  }

  /**
   * The level of a part, or without one that of all parts that have none of their own. A destination may have a level of
   * its own.
   */
  level(part?: LogPart): LogThreshold {
    const { level = this.#own ? EVERY : 'info', levels = {} } = this.#own ? {} : this.#config;
    const general = this.#levels.get(undefined) ?? level;
    if (part === undefined) return general;
    // What is said of all while it runs counts more than what the configuration says of a part.
    return this.#levels.get(part) ?? (this.#levels.has(undefined) ? general : (levels[part] ?? general));
  }

  /**
   * Changes the level until the next `reconfigure`, of one part or, without one, of all: then what was set for parts is
   * forgotten. Destinations that have a level of their own keep it.
   */
  setLevel(part: LogPart | undefined, level: LogThreshold): void {
    if (part === undefined) this.#levels.clear();
    this.#levels.set(part, level);
    this.#findFloors();
  }

  /** Resolves when lines that come later go to the files that the paths lead to, as after `logrotate`. */
  reopen(): Promise<void> {
    return this.#outputs.reopen();
  }

  /**
   * Calls back for each line as it is written, `onLine` never while a line is being logged. If it returns a promise, the
   * next line waits for that; up to 1 MiB of lines wait, then they are left out and a line says how many.
   *
   * @returns ends that.
   */
  follow(filter: FollowFilter, onLine: (line: FollowedLine) => unknown): () => void {
    const follower = new Follower(filter, onLine);
    this.#followers.add(follower);
    this.#changed();
    return () => {
      follower.end();
      if (this.#followers.delete(follower)) this.#changed();
    };
  }

  /**
   * Changes where the logs go, and their levels and formats. Outputs that both configurations have stay as they are, and
   * no line is lost: what waits for an output that is let go of is written before. Levels that were set are forgotten.
   *
   * @throws {HoldfastError} ERR_CONFIG_INVALID when a file cannot be written. Then nothing has changed.
   */
  reconfigure(config: LogConfig): void {
    const server = this.#own ? [] : readServerLog(config);
    const access = this.#accessSink ? [] : readAccess(config);
    const security = readSecurityLog(config);
    const places = [...server, ...access, ...(security ?? [])];
    const outputs = this.#outputs.open(places);
    const next = () => outputs.shift()!;
    this.#server = this.#own ? [] : server.map(destination => target(destination, next()));
    this.#accessTargets = readAccess(config).map(({ format, level }) => ({
      ...{ format: accessFormat(format, this.#clock, this.#ownFields), level },
      sink: this.#accessSink ?? next(),
    }));
    this.#security = security?.map(destination => target(destination, next()));
    this.#config = config;
    this.#places = places;
    this.#levels.clear();
    this.#outputs.release(places);
    this.#changed();
  }

  /** From now on what these hold is not written by any format. They may still grow. */
  hide(fields: OwnFields): void {
    this.#ownFields = fields;
    this.#accessTargets = this.#accessTargets.map((each, i) => ({
      ...each,
      format: accessFormat(readAccess(this.#config)[i]!.format, this.#clock, fields),
    }));
    this.#changed();
  }

  /**
   * Writes what waits, for at most half a second. What comes later still goes to the outputs of the process, and is lost
   * for files.
   */
  async close(): Promise<void> {
    this.logger.flush();
    for (const follower of this.#followers) follower.end();
    this.#followers.clear();
    const closed = this.#outputs.close();
    this.#changed();
    await closed;
  }

  #changed(): void {
    const followers = [...this.#followers].filter(({ filter }) => filter.kinds?.includes('access'));
    const followed: AccessTarget = {
      format: accessFormat('json', this.#clock),
      level: EVERY,
      sink: { write: text => this.#tell({ kind: 'access', text }, true) },
    };
    this.#access.setTargets(followers.length > 0 ? [...this.#accessTargets, followed] : this.#accessTargets);
    this.#findFloors();
  }

  #findFloors(): void {
    const floors = new Map<LogPart | undefined, number>();
    for (const part of [undefined, ...LOG_PARTS]) {
      const written = this.#own
        ? [levelRank(this.level(part))]
        : this.#server.map(({ level }) => levelRank(level ?? this.level(part)));
      const followed = [...this.#followers].flatMap(({ filter }) =>
        filter.level !== undefined && (filter.part === undefined || filter.part === part)
          ? levelRank(filter.level)
          : [],
      );
      floors.set(part, Math.min(SILENT, ...written, ...followed));
    }
    this.#floors = floors;
  }

  #isEnabled(level: LogLevel, part: LogPart | undefined): boolean {
    return levelRank(level) >= (this.#floors.get(part) ?? this.#floors.get(undefined) ?? SILENT);
  }

  /** Behind the one that counts repeats. */
  #serverLogger(): Logger {
    const log = (level: LogLevel) => (fields: object, message: string) => this.#log(level, fields, message);
    return {
      ...{ debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') },
      isLevelEnabled: (level, part) => this.#isWanted(level, part),
    };
  }

  /** A logger of the program's own says what it takes, and nothing of what others follow. */
  #isWanted(level: LogLevel, part: LogPart | undefined): boolean {
    if (!this.#isEnabled(level, part)) return false;
    return !this.#own || this.#takesOwn(level, part) || this.#isFollowed(level, part);
  }

  #takesOwn(level: LogLevel, part: LogPart | undefined): boolean {
    if (!this.#own || levelRank(level) < levelRank(this.level(part))) return false;
    return this.#own.isLevelEnabled?.(level, part) ?? true;
  }

  #isFollowed(level: LogLevel, part: LogPart | undefined): boolean {
    for (const { filter } of this.#followers)
      if (filter.level !== undefined && (filter.part === undefined || filter.part === part))
        if (levelRank(level) >= levelRank(filter.level)) return true;
    return false;
  }

  #securityLogger(): Logger {
    const log = (level: LogLevel) => (fields: object, message: string) => {
      if (!this.#security) return this.#log(level, fields, message);
      const text = securityLine(level, fields, message, this.#clock);
      const isWritten = this.#security.map(each => this.#writeTo(each, level, 'debug', text, 'security'));
      const { part } = fields as { part?: LogPart };
      this.#tell({ kind: 'security', level, part: part!, text }, isWritten.includes(true));
    };
    const isOwnEnabled = (level: LogLevel) =>
      this.#followers.size > 0 || this.#security!.some(each => levelRank(level) >= levelRank(each.level ?? EVERY));
    return {
      ...{ debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') },
      isLevelEnabled: (level, part) => (this.#security ? isOwnEnabled(level) : this.#isWanted(level, part)),
    };
  }

  #log(level: LogLevel, fields: object, message: string): unknown {
    const { part, event } = fields as { part?: LogPart; event?: unknown };
    if (this.#without.has(event)) return undefined;
    if (!this.#own || this.#followers.size > 0) {
      this.#line = { level, part };
      this.#json[level](fields, message);
    }
    return this.#takesOwn(level, part) ? this.#own![level](fields, message) : undefined;
  }

  #onLine(text: string, rank: LineRank): void {
    const { level, part } = this.#line!;
    const general = this.level(part);
    let isWritten = this.#takesOwn(level, part);
    for (const each of this.#server) if (this.#writeTo(each, level, general, text, rank)) isWritten = true;
    if (this.#followers.size === 0) return;
    this.#tell({ kind: rank === 'security' ? 'security' : 'server', level, part: part!, text }, isWritten);
  }

  #writeTo(each: Target, level: LogLevel, general: LogThreshold, text: string, rank: LineRank): boolean {
    if (levelRank(level) < levelRank(each.level ?? general)) return false;
    each.write(text, rank);
    return true;
  }

  #tell(line: FollowedLine, isInLog: boolean): void {
    for (const follower of this.#followers) follower.take(line, isInLog);
  }
}

function target({ place, format, level }: Destination, sink: LineSink): Target {
  const isTerminal = isTerminalAt(place);
  if ((format ?? (isTerminal ? 'pretty' : 'json')) === 'json')
    return { level, write: (line, rank) => sink.write(line, rank) };
  const isColoured = 'to' in place && hasColours(isTerminal);
  return { level, write: (line, rank) => sink.write(prettyLine(line, isColoured), rank) };
}

function isTerminalAt(place: Place): boolean {
  return 'to' in place && isatty(place.to === 'stdout' ? 1 : 2);
}
