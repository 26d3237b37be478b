import { type Duration, parseDuration } from '../../base/duration.ts';

/**
 * Bans of addresses whose clients misbehave, as Fail2Ban makes them. What is counted is one client: an IPv4 address, or
 * the /64 of an IPv6 address.
 */
export interface BansConfig {
  /**
   * What happens at the threshold of a jail. `log` (default): a line of the security log, `ban-due`, and nothing else.
   * `refuse`: 403. `drop`: connections are cut before anything is read of them. `tarpit`: the same after a minute, for
   * 100 connections at a time. Behind a trusted proxy each of the last three is 403, as its connections are of others,
   * too.
   */
  action?: 'log' | 'refuse' | 'drop' | 'tarpit';
  jails?: JailsConfig;
  /** Addresses and CIDR blocks that are never banned. Trusted proxies never are. Default: the machine itself (`127.0.0.0/8`, `::1`). */
  allow?: readonly string[];
  /** Each further ban of a client is so many times as long as the one before. Default 2; 1: all are of one length. */
  factor?: number;
  /** The longest ban. Default `24h`; at most `30d`. */
  maxTime?: Duration;
  /** After so much time without a ban one of the former ones counts no more. Default `24h`; at most `30d`. */
  forgetAfter?: Duration;
  /**
   * Clients that send `X-Forwarded-For` or `Forwarded`, and are none of `trustedProxies`: a proxy that was not declared
   * speaks for many. `spare` (default): jails only log (`ban-spared`) for an hour. `ban`: nothing is in front of the
   * server, so who sends such a header makes it up.
   */
  undeclaredProxies?: 'spare' | 'ban';
}

/** `false`: this jail is off. */
export interface JailsConfig {
  /** Failed logins (`login-failed`). Default: 5 within 10 minutes, for 10 minutes. */
  login?: JailConfig | false;
  /** Handshakes of WebSockets that break the rules (`bad-handshake`). Default: 20 within a minute, for 10 minutes. */
  handshake?: JailConfig | false;
  /** What is no HTTP, and sockets that break the protocol (`bad-request`, `client-violation`). Default: 20 within a minute, for 10 minutes. */
  protocol?: JailConfig | false;
  /** Refusals because of a limit (429). Default: 100 within a minute, for 10 minutes. */
  rate?: JailConfig | false;
  /** Paths that do not exist (404), whoever says so (`not-found`). Default: 50 within a minute, for 10 minutes. */
  scan?: JailConfig | false;
  /** Paths that nobody asks for in good faith. Default: none; 1 request within a minute, for an hour. */
  honeypot?: HoneypotConfig | false;
  /** Requests and messages that match a rule of `policy.inspect` with `action: ban`. Default: 1 within a minute, for an hour. */
  inspection?: JailConfig | false;
}

export interface JailConfig {
  /** How many make a ban. */
  failures?: number;
  /** Within which time: at most `1d`. */
  within?: Duration;
  /** How long the first ban is: at most `30d`. */
  ban?: Duration;
}

export interface HoneypotConfig extends JailConfig {
  /** Paths, or beginnings with `/*`: `/wp-login.php`, `/.git/*`. They are 404 for everybody. */
  paths: readonly string[];
}

export type BanAction = NonNullable<BansConfig['action']>;
export type JailName = keyof JailsConfig;

/** A jail with its times in ms. */
export interface JailSettings {
  readonly failures: number;
  readonly withinMs: number;
  readonly banMs: number;
}

export interface BanSettings {
  readonly action: BanAction;
  /** Those that are on. */
  readonly jails: ReadonlyMap<JailName, JailSettings>;
  readonly traps: readonly string[];
  readonly allow: readonly string[];
  readonly factor: number;
  readonly maxMs: number;
  readonly forgetMs: number;
  readonly sparesProxies: boolean;
}

const JAILS: Readonly<Record<JailName, JailSettings>> = {
  login: { failures: 5, withinMs: 600_000, banMs: 600_000 },
  handshake: { failures: 20, withinMs: 60_000, banMs: 600_000 },
  protocol: { failures: 20, withinMs: 60_000, banMs: 600_000 },
  rate: { failures: 100, withinMs: 60_000, banMs: 600_000 },
  scan: { failures: 50, withinMs: 60_000, banMs: 600_000 },
  honeypot: { failures: 1, withinMs: 60_000, banMs: 3_600_000 },
  inspection: { failures: 1, withinMs: 60_000, banMs: 3_600_000 },
};

/** With all defaults. */
export function readBanSettings(config: BansConfig = {}): BanSettings {
  const { jails = {}, maxTime = '24h', forgetAfter = '24h' } = config;
  const on = new Map<JailName, JailSettings>();
  for (const name of Object.keys(JAILS) as JailName[]) {
    const own = jails[name];
    const usual = JAILS[name];
    if (own === false || (name === 'honeypot' && own === undefined)) continue;
    on.set(name, {
      failures: own?.failures ?? usual.failures,
      withinMs: own?.within === undefined ? usual.withinMs : parseDuration(own.within),
      banMs: own?.ban === undefined ? usual.banMs : parseDuration(own.ban),
    });
  }
  return {
    action: config.action ?? 'log',
    jails: on,
    traps: (jails.honeypot || undefined)?.paths ?? [],
    allow: config.allow ?? ['127.0.0.0/8', '::1'],
    factor: config.factor ?? 2,
    maxMs: parseDuration(maxTime),
    forgetMs: parseDuration(forgetAfter),
    sparesProxies: config.undeclaredProxies !== 'ban',
  };
}
