import type { Logger, LogLevel } from '../base/logger.ts';
import type { ConfigProblem } from '../config/config-error.ts';

/** What a running server watches, and says itself at its start, after a change and each day. */
const WATCHED = /^(?:user-twice|weak-password-hash|no-users|revocation-list-.*|certificate-.*)$/;
/** What a start says of a configuration that nobody has examined. */
const OF_START: readonly unknown[] = ['trusted-proxies-doubtful', 'sessions-in-urls'];

/** Is a doubt one that the server has a line for? Of the certificates for upstreams nobody watches the dates. */
export function isSaidByServer({ code, path }: ConfigProblem): boolean {
  return code !== undefined && WATCHED.test(code) && !path.startsWith('upstreams');
}

/** A logger without the lines of a start that say what the examination of the configuration has said, with its place. */
export function afterExamination(logger: Logger): Logger {
  const write = (level: LogLevel) => (fields: object, message: string) => {
    if (!OF_START.includes((fields as { event?: unknown }).event)) logger[level](fields, message);
  };
  const isLevelEnabled = (level: LogLevel) => logger.isLevelEnabled?.(level) ?? true;
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error'), isLevelEnabled };
}
