import { type Clock, systemClock } from '../../base/clock.ts';
import { type LogLevel, type LogThreshold, levelRank } from '../../base/logger.ts';
import type { LogConfig } from '../../config/config.ts';
import type { RequestEntry, SocketClosedEntry, SocketOpenedEntry } from './access-entry.ts';
import { type AccessFormat, combinedFormat, jsonFormat } from './access-formats.ts';
import { apacheFormat, type OwnFields } from './apache-format.ts';
import type { LineSink } from './line-output.ts';
import { readAccess } from './places.ts';
import { standardOutput } from './standard-output.ts';

/** One line for each finished request, one when a socket opens and one when it closes. */
export interface AccessLog {
  /** False when nothing is written anywhere: then entries need not be made. */
  readonly isOn: boolean;
  /** Must entries have their `detail`? */
  readonly needsDetail: boolean;
  request(entry: RequestEntry): void;
  socketOpened(entry: SocketOpenedEntry): void;
  socketClosed(entry: SocketClosedEntry): void;
}

/** Where lines go, and in which format. */
export interface AccessTarget {
  readonly format: AccessFormat;
  readonly sink: LineSink;
  /** `warn`: of requests that were refused or broke off; `error`: of those that failed, 500 and above. */
  readonly level: LogThreshold;
}

/** Writes each entry to several targets, none of which knows of the others. What a target throws is lost. */
export class AccessLogs implements AccessLog {
  #targets: readonly AccessTarget[] = [];
  #needsDetail = false;

  get isOn(): boolean {
    return this.#targets.length > 0;
  }

  get needsDetail(): boolean {
    return this.#needsDetail;
  }

  /** From now on entries go to these. */
  setTargets(targets: readonly AccessTarget[]): void {
    this.#targets = targets;
    this.#needsDetail = targets.some(({ format }) => format.needsDetail);
  }

  request(entry: RequestEntry): void {
    this.#write(levelOfRequest(entry), format => format.request(entry));
  }

  socketOpened(entry: SocketOpenedEntry): void {
    this.#write('info', format => format.socketOpened(entry));
  }

  socketClosed(entry: SocketClosedEntry): void {
    this.#write(entry.closedBy === 'lost' ? 'warn' : 'info', format => format.socketClosed(entry));
  }

  #write(level: LogLevel, lineOf: (format: AccessFormat) => string | undefined): void {
    for (const { format, sink, level: from } of this.#targets) {
      if (levelRank(level) < levelRank(from)) continue;
      try {
        const line = lineOf(format);
        if (line !== undefined) sink.write(line);
      } catch {
        // A log stops no traffic.
      }
    }
  }
}

function levelOfRequest({ status, complete }: RequestEntry): LogLevel {
  if (status >= 500) return 'error';
  return status >= 400 || !complete ? 'warn' : 'info';
}

/**
 * The access log of a configuration, all of it to one sink.
 *
 * @param sink Default: stdout.
 */
export function createAccessLog(config: LogConfig = {}, sink?: LineSink, clock: Clock = systemClock): AccessLog {
  const logs = new AccessLogs();
  const target = sink ? guarded(sink) : standardOutput();
  logs.setTargets(
    readAccess(config).map(({ format, level }) => ({ format: accessFormat(format, clock), sink: target, level })),
  );
  return logs;
}

/** @param own What is ours in requests and is never written. */
export function accessFormat(format: string, clock: Clock, own?: OwnFields): AccessFormat {
  if (format === 'json') return jsonFormat(clock);
  return format === 'combined' ? combinedFormat(clock) : apacheFormat(format, own);
}

/** Somebody else's. */
export function guarded(sink: LineSink): LineSink {
  return {
    write(line) {
      try {
        const outcome = sink.write(line);
        if (outcome instanceof Promise) outcome.catch(() => {});
      } catch {
        // A log stops no traffic.
      }
    },
  };
}
