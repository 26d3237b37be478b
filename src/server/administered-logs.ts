import type { StreamQuery } from '../admin/administered.ts';
import type { LogLevelChange, LogLevels } from '../admin/shapes.ts';
import { HoldfastError } from '../base/errors.ts';
import { LOG_PARTS, type LogLevel, type LogPart } from '../base/logger.ts';
import { nearestName } from '../base/nearest-name.ts';
import type { FollowFilter } from './log/followers.ts';
import type { LogControl } from './log/log-control.ts';

/** The logs of one process, as its administration sees them. */
export class AdministeredLogs {
  readonly #logs: LogControl;

  constructor(logs: LogControl) {
    this.#logs = logs;
  }

  levels(): LogLevels {
    const parts = LOG_PARTS.map(part => [part, this.#logs.level(part)] as const);
    return { level: this.#logs.level(), parts: Object.fromEntries(parts) };
  }

  /** @throws {HoldfastError} ERR_ADMIN_BAD_REQUEST. */
  setLevel({ part, level }: LogLevelChange): LogLevels {
    this.#logs.setLevel(part === undefined ? undefined : logPart(part), level);
    return this.levels();
  }

  /** Calls back with each line as an object. @returns ends that. @throws {HoldfastError} ERR_ADMIN_BAD_REQUEST. */
  follow({ level, part, access }: StreamQuery, onLine: (line: object) => void): () => void {
    const filter: FollowFilter = {
      ...(level !== undefined && level !== 'silent' && { level: level as LogLevel }),
      ...(part !== undefined && { part: logPart(part) }),
      kinds: access === 'true' ? ['server', 'security', 'access'] : ['server', 'security'],
    };
    return this.#logs.follow(filter, ({ kind, text }) => onLine({ kind, ...JSON.parse(text) }));
  }
}

function logPart(name: string): LogPart {
  const part = LOG_PARTS.find(one => one === name);
  if (part !== undefined) return part;
  const near = nearestName(name, LOG_PARTS);
  const remedy = near === undefined ? `there are ${LOG_PARTS.join(', ')}` : `did you mean "${near}"?`;
  const message = `part: "${name.slice(0, 40)}" is no part of the log; ${remedy}`;
  throw new HoldfastError('ERR_ADMIN_BAD_REQUEST', message, { status: 400 });
}
