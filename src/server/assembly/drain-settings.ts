import { parseDuration } from '../../base/duration.ts';
import type { Config } from '../../config/config.ts';

/** The times of a stop, in ms. */
export interface DrainSettings {
  /** How long it takes at most. */
  readonly timeoutMs: number;
  /** Over which time WebSockets are told to go. */
  readonly overMs: number;
  /** How long everything goes on as before, but for `/readyz`. */
  readonly delayMs: number;
}

const DEFAULT_TIMEOUT = '10s';

export function drainSettings({ drain = {} }: Pick<Config, 'drain'>): DrainSettings {
  const { timeout = DEFAULT_TIMEOUT, over, delay = 0 } = drain;
  const timeoutMs = parseDuration(timeout);
  return {
    timeoutMs,
    overMs: over === undefined ? timeoutMs / 2 : parseDuration(over),
    delayMs: parseDuration(delay),
  };
}
