/** From what is said of everything to what must be acted on. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

/** The level from which lines are written; `silent`: none. */
export type LogThreshold = LogLevel | 'silent';

/** The parts of the program that log, named as their folders. A line says of which one it is: `part`. */
export const LOG_PARTS = ['server', 'gateway', 'policy', 'session', 'websocket', 'admin', 'cli'] as const;

export type LogPart = (typeof LOG_PARTS)[number];

/**
 * What the project logs through. Structurally a subset of pino's logger, so a pino instance is one.
 *
 * What a method throws, or rejects with, is ignored: a log stops no traffic. One that blocks does, so let it write
 * asynchronously.
 *
 * Fields never hold a cookie, a token or a whole session id: a session is named by the first 8 characters of its `sid`.
 */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  /** False: lines of this level (and part) are not written anywhere, and need not be made. Default: they are. */
  isLevelEnabled?(level: LogLevel, part?: LogPart): boolean;
}

const nothing = () => {};

/** Discards everything. */
export const silentLogger: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/** How a session appears in a log line: enough to follow it, not enough to use it. */
export function sidPrefix(sid: string): string {
  return sid.slice(0, 8);
}

/** The event of the line that says how many others were dropped. It is never dropped or counted itself. */
export const LINES_DROPPED = 'log-lines-dropped';

/** How much a level matters: a greater number matters more. `silent` is above every line. */
export function levelRank(level: LogThreshold): number {
  return level === 'silent' ? LOG_LEVELS.length : LOG_LEVELS.indexOf(level);
}
