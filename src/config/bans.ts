import * as z from 'zod';
import { isAddressOrBlock } from '../http/address-block.ts';
import { parseRoutePattern } from '../http/route-pattern.ts';
import type { AnomaliesConfig, RateAnomalyConfig } from '../policy/anomaly-options.ts';
import type { BansConfig, HoneypotConfig, JailConfig, JailsConfig } from '../policy/ban/options.ts';
import type { Config, PolicyConfig } from './config.ts';
import { DURATION, measured, type Shape, section, textLike, whole } from './schema-parts.ts';
import type { Doubt } from './warning-codes.ts';

const DAY_MS = 86_400_000;

/** At most so many days: what is longer is meant for a list of addresses. */
function days(max: number, why: string) {
  return measured(DURATION, why).refine(ms => (ms as number) <= max * DAY_MS, {
    error: `is more than ${max < 1 ? '1h' : `${max}d`}: ${why}`,
  });
}

const time = days(30, 'who may never come in belongs into policy.addresses.deny');

const jail: Shape<JailConfig> = {
  failures: whole(1, 1_000_000).optional(),
  within: days(1, 'failures of other days are no attack').optional(),
  ban: time.optional(),
};

const off = z.literal(false);
const oneJail = z.union([off, section<JailConfig>('a jail', jail)], { error: 'expected false or keys and values' });

const trap = textLike(isTrap, 'not a path of a trap; write for example "/wp-login.php", or "/.git/*" for all below it');

function isTrap(value: string): boolean {
  try {
    return parseRoutePattern(value).segments.every(segment => 'text' in segment) && value !== '/*';
  } catch {
    return false;
  }
}

export const bansSchema: z.ZodType<BansConfig> = section<BansConfig>('bans', {
  action: z.enum(['log', 'refuse', 'drop', 'tarpit']).optional(),
  jails: section<JailsConfig>('jails', {
    login: oneJail.optional(),
    handshake: oneJail.optional(),
    protocol: oneJail.optional(),
    rate: oneJail.optional(),
    scan: oneJail.optional(),
    inspection: oneJail.optional(),
    honeypot: z
      .union(
        [
          off,
          section<HoneypotConfig>('honeypot', {
            ...jail,
            paths: z.array(trap).min(1, { error: 'is empty; leave the honeypot out for none' }),
          }),
        ],
        { error: 'expected false or keys and values' },
      )
      .optional(),
  }).optional(),
  allow: z
    .array(textLike(isAddressOrBlock, 'not an address; write for example "10.0.0.1", "192.168.0.0/24" or "fd00::/8"'))
    .optional(),
  factor: z
    .number()
    .refine(value => value >= 1 && value <= 100, {
      error: ({ input }) => `expected a number from 1 to 100, got ${input}`,
    })
    .optional(),
  maxTime: time.optional(),
  forgetAfter: time.optional(),
  undeclaredProxies: z.enum(['spare', 'ban']).optional(),
});

const anomalyAction = z.enum(['off', 'log', 'challenge', 'end', 'ban']);

export const anomaliesSchema: z.ZodType<AnomaliesConfig | false> = z.union(
  [
    off,
    section<AnomaliesConfig>('anomalies', {
      network: anomalyAction.optional(),
      agent: anomalyAction.optional(),
      places: anomalyAction.optional(),
      rate: z
        .union(
          [
            anomalyAction,
            section<RateAnomalyConfig>('rate', {
              requests: whole(10).optional(),
              within: days(1 / 24, 'a rate is of a moment').optional(),
              action: anomalyAction.optional(),
            }),
          ],
          { error: 'expected "off", "log", "challenge", "end" or "ban", or keys and values' },
        )
        .optional(),
      secret: z.enum(['log', 'ban']).optional(),
    }),
  ],
  { error: 'expected false or keys and values' },
);

const NOBODY_IS_BANNED = 'nobody is banned while bans.action is "log"; set it, for example to "refuse"';

function isOnlyLogged({ bans }: Config): boolean {
  return (bans?.action ?? 'log') === 'log';
}

/** Rules that say `ban`, where no ban comes of it. @param at Of the policy that they are of. */
export function* checkBanRules(
  { inspect }: PolicyConfig,
  at: readonly PropertyKey[],
  config: Config,
): Generator<Doubt> {
  for (const [index, { action }] of (inspect ? inspect.rules : []).entries()) {
    if (action !== 'ban') continue;
    const path = [...at, 'inspect', 'rules', index, 'action'];
    if (isOnlyLogged(config)) yield { code: 'bans-only-logged', path, message: NOBODY_IS_BANNED };
    else if (config.bans?.jails?.inspection === false)
      yield {
        code: 'bans-only-logged',
        path,
        message: 'nobody is banned by a rule while bans.jails.inspection is false; leave that out',
      };
  }
}

/** What is legal and will not do what was meant. */
export function* checkBans(config: Config): Generator<Doubt> {
  const { bans, anomalies, trustedProxies = [], policy } = config;
  for (const [name, value] of Object.entries(anomalies || {})) {
    const isBan = value === 'ban' || (typeof value === 'object' && value.action === 'ban');
    if (isBan && isOnlyLogged(config))
      yield { code: 'bans-only-logged', path: ['anomalies', name], message: NOBODY_IS_BANNED };
  }
  if (!bans) return;
  const { action = 'log', allow = [], undeclaredProxies } = bans;
  if (action !== 'log' && undeclaredProxies === undefined && trustedProxies.length === 0)
    yield {
      code: 'proxies-undeclared',
      path: ['bans', 'action'],
      message:
        'clients that send X-Forwarded-For are spared, because a proxy that was not declared speaks for many; name the proxies in trustedProxies, or set "undeclaredProxies: ban" when there are none',
    };
  const denied = new Set(policy?.addresses?.deny ?? []);
  for (const [index, entry] of allow.entries())
    if (denied.has(entry))
      yield {
        code: 'allowed-but-denied',
        path: ['bans', 'allow', index],
        message: `${entry} may not come in at all: policy.addresses.deny has it`,
      };
}
