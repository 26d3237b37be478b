import { defined } from '../../base/defined.ts';
import { parseByteRate, parseRate } from '../../base/rate.ts';
import type { LimitsConfig } from '../../config/config.ts';
import type { FrameRule } from '../../policy/limits/frame-limit.ts';
import { COUNTS, Limits, type LimitsEnvironment, type PerAddress, RATES } from '../../policy/limits/limits.ts';

/** What holds for the server where it says nothing: what an address could else have without end, at no cost. */
export const SERVER_DEFAULTS = { connectionsPerAddress: 1000, newSessionsPerAddress: '1200/10m' } as const;

/** The limits of the server, defaults included. */
export function serverLimits(config: LimitsConfig = {}, environment: LimitsEnvironment): Limits {
  const defaults = new Set(
    (Object.keys(SERVER_DEFAULTS) as (keyof typeof SERVER_DEFAULTS & PerAddress)[]).filter(
      name => config[name] === undefined,
    ),
  );
  return makeLimits('the server', { ...SERVER_DEFAULTS, ...defined(config) }, environment, defaults);
}

/** @param name Of the application or route that they are of: the same in every process that shares them. */
export function makeLimits(
  name: string,
  config: LimitsConfig,
  environment: LimitsEnvironment,
  defaults?: ReadonlySet<PerAddress>,
): Limits {
  const counts = COUNTS.map(count => [count, config[count] === -1 ? undefined : config[count]]);
  const rates = RATES.map(rate => [rate, config[rate] === undefined ? undefined : parseRate(config[rate])]);
  return new Limits(
    {
      ...{ name, defaults, frames: frameRules(config), isShared: config.scope === 'all' },
      ...Object.fromEntries(counts),
      ...Object.fromEntries(rates),
    },
    environment,
  );
}

function frameRules({ messages = -1, bytes = -1, whenExceeded = 'wait' }: LimitsConfig): FrameRule[] {
  const rates = { messages: parseRate(messages), bytes: parseByteRate(bytes) };
  return (['messages', 'bytes'] as const).flatMap(of => {
    const rate = rates[of];
    return rate ? [{ of, rate, whenExceeded }] : [];
  });
}
