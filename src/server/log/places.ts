import type { LogThreshold } from '../../base/logger.ts';
import type { AccessLogConfig, LogConfig, LogDestination, SecurityLogConfig } from '../../config/config.ts';

/** Where lines go: an output of the process, or a file. */
export type Place = { readonly to: 'stdout' | 'stderr' } | { readonly file: string };

/** A destination as it holds, with its defaults. */
export interface Destination {
  readonly place: Place;
  /** Undefined: of the server's own log, readable on a terminal and JSON elsewhere. */
  readonly format: string | undefined;
  /** Undefined: the level of the log. */
  readonly level: LogThreshold | undefined;
  /** Where it stands in the configuration. */
  readonly where: string;
}

/** Where the server's own log goes. Default: stderr. */
export function readServerLog({ server = 'stderr' }: LogConfig): Destination[] {
  return listOf(server).map(({ value, where }) => {
    const { format, level, ...place } = typeof value === 'string' ? { to: value } : (value as LogDestination);
    return { place: placeOf(place, 'stderr'), format, level, where: `log.server${where}` };
  });
}

/** Where the access log goes. Default: nowhere; with a format and no place: stdout. */
export function readAccess({ access = 'off' }: LogConfig): (Destination & { format: string; level: LogThreshold })[] {
  if (access === 'off') return [];
  return listOf(access).flatMap(({ value, where }) => {
    const {
      format = 'combined',
      level = 'info',
      ...place
    } = typeof value === 'string' ? { format: value } : (value as AccessLogConfig);
    if (format === 'off' || level === 'silent') return [];
    return [{ place: placeOf(place, 'stdout'), format, level, where: `log.access${where}` }];
  });
}

/** Where security events go that do not stand in the server's own log; undefined: they do. */
export function readSecurityLog({ security = 'log' }: LogConfig): Destination[] | undefined {
  if (security === 'log') return undefined;
  return listOf(security).map(({ value, where }) => {
    const { level, ...place } = typeof value === 'string' ? { to: value } : (value as SecurityLogConfig);
    return { place: placeOf(place, 'stdout'), format: 'json', level, where: `log.security${where}` };
  });
}

function listOf<T>(value: T | readonly T[]): { value: T; where: string }[] {
  if (!Array.isArray(value)) return [{ value: value as T, where: '' }];
  return value.map((each: T, i) => ({ value: each, where: `[${i}]` }));
}

function placeOf({ to, file }: { to?: unknown; file?: unknown }, otherwise: 'stdout' | 'stderr'): Place {
  if (typeof file === 'string') return { file };
  return { to: to === 'stdout' || to === 'stderr' ? to : otherwise };
}
