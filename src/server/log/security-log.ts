import type { Clock } from '../../base/clock.ts';
import type { Logger, LogLevel } from '../../base/logger.ts';
import { jsonLine } from './escape.ts';
import type { LineSink } from './line-output.ts';

/**
 * Writes each event as one JSON object whose first fields are `time`, `level`, `event` and `address`, in this order, so
 * that a program that reads lines by their beginning finds them; of every level.
 */
export function securityLogger(sink: LineSink, clock: Clock): Logger {
  const write = (level: LogLevel) => (fields: object, message: string) => {
    sink.write(securityLine(level, fields, message, clock), 'security');
  };
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
}

/** A line of the log of security events, with its newline. */
export function securityLine(level: LogLevel, fields: object, message: string, clock: Clock): string {
  const { event, address, ...rest } = fields as Record<string, unknown>;
  return jsonLine({
    ...{ time: new Date(clock.now()).toISOString(), level, event, address },
    ...rest,
    msg: message,
  });
}
