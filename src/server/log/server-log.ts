import { pino } from 'pino';
import { toError } from '../../base/errors.ts';
import { LINES_DROPPED, type Logger } from '../../base/logger.ts';
import { isSecurityEvent } from '../../base/security-events.ts';
import type { LogConfig } from '../../config/config.ts';
import { escapeJson } from './escape.ts';
import type { LineRank, LineSink, OutputListener } from './line-output.ts';
import { standardError } from './standard-output.ts';

/** A log of one JSON object a line, from the level of the configuration upwards. Default: to stderr. */
export function createLogger(config: Pick<LogConfig, 'level'> = {}, sink: LineSink = standardError()): Logger {
  return pino(
    {
      level: config.level ?? 'info',
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      serializers: { err: describeError },
    },
    destinationOf(sink),
  );
}

/**
 * Never throws, whatever an application has thrown: pino's own changes the error for a moment, and reads all that it
 * has.
 */
function describeError(error: Error): unknown {
  try {
    return pino.stdSerializers.err(error);
  } catch {
    const { name, message, stack } = toError(error);
    return { type: name, message, stack };
  }
}

/** Where pino writes: a line's fields say how much it matters. */
function destinationOf(sink: LineSink) {
  const destination = {
    // Lets pino set `lastObj` for each line.
    [pino.symbols.needsMetadataGsym]: true,
    lastObj: undefined as object | undefined,
    write(line: string) {
      sink.write(escapeJson(line), rankOf(destination.lastObj));
    },
  };
  return destination;
}

function rankOf(fields: object | undefined): LineRank {
  if (!fields) return 'ordinary';
  if ((fields as { event?: unknown }).event === LINES_DROPPED) return 'notice';
  return isSecurityEvent(fields) ? 'security' : 'ordinary';
}

/** Counts lines that were dropped, by output. */
export interface LostLineMeters {
  readonly lostLines: { add(output: string, lines: number): void };
}

/** Says in this log what becomes of lines of another output. */
export function lostLines(
  logger: Pick<Logger, 'warn' | 'error'>,
  meters: () => LostLineMeters | undefined,
): OutputListener {
  return {
    onTrouble({ output, code }) {
      logger.error(
        { event: 'log-output-failed', output, code },
        `${output} cannot be written (${code}); lines wait, and are dropped when there are too many`,
      );
    },
    onLost({ output, code, lines, securityLines }) {
      meters()?.lostLines.add(output, lines);
      const why = code === 'EAGAIN' ? 'nobody read them' : `they could not be written (${code})`;
      const level = securityLines > 0 ? 'error' : 'warn';
      logger[level](
        { event: LINES_DROPPED, output, code, lines, securityLines },
        `${lines} lines of ${output} were dropped, because ${why}`,
      );
    },
  };
}
