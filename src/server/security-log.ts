import type { Clock } from '../base/clock.ts';
import type { Logger, LogLevel } from '../base/logger.ts';
import type { LogConfig } from '../config/config.ts';
import { LineOutput, type LineSink, type OutputListener } from './line-output.ts';
import { LogFile } from './log-file.ts';
import { standardOutput } from './standard-output.ts';

/** Where security events go that have a log of their own. */
export interface SecurityLog {
  readonly logger: Logger;
  close(): void;
}

/** How long the end waits for what is not written yet. */
const FINISH_MS = 500;

/**
 * The log of security events that the configuration asks for; undefined: they stand in the server's own.
 *
 * @param listener Learns of lines that cannot be written.
 * @throws {HoldfastError} ERR_CONFIG_INVALID when its file cannot be written.
 */
export function openSecurityLog(
  { security = 'log' }: LogConfig,
  clock: Clock,
  listener: OutputListener,
): SecurityLog | undefined {
  if (security === 'log') return undefined;
  if (security === 'stdout') return { logger: securityLogger(standardOutput(), clock), close: () => {} };
  const file = new LogFile(security.file, 'log.security', clock);
  const output = new LineOutput(security.file, file, clock);
  output.listener = listener;
  const finish = () => void output.finish(FINISH_MS);
  process.on('exit', finish);
  const close = () => {
    process.off('exit', finish);
    finish();
    file.close();
  };
  return { logger: securityLogger(output, clock), close };
}

/**
 * Writes each event as one JSON object whose first fields are `time`, `level`, `event` and `address`, in this order, so
 * that a program that reads lines by their beginning finds them; of every level.
 */
export function securityLogger(sink: LineSink, clock: Clock): Logger {
  const write = (level: LogLevel) => (fields: object, message: string) => {
    const { event, address, ...rest } = fields as Record<string, unknown>;
    const line = JSON.stringify({
      ...{ time: new Date(clock.now()).toISOString(), level, event, address },
      ...rest,
      msg: message,
    });
    sink.write(`${line.replaceAll(UNSAFE, escaped)}\n`, 'security');
  };
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
}

/** What JSON leaves as it is, and terminals and programs that read lines may not. */
const UNSAFE = /[\u007f-\u009f\u2028\u2029]/g;

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
