import { type Duration, parseDuration } from '../base/duration.ts';

/**
 * What is done when a session is used as it was not before. `log`: a line of the security log. `challenge`: the request is
 * taken for one that shows no session, so that who sent it has to sign in again; the session goes on for the others.
 * `end`: the session ends, its sockets too, in every process. `ban`: the same, and the client is banned (10 minutes the
 * first time, under the rules of `bans`).
 */
export type AnomalyAction = 'off' | 'log' | 'challenge' | 'end' | 'ban';

/** Sessions that are used in an unusual way. What is known of a session is known to this process, and ends with it. */
export interface AnomaliesConfig {
  /** From a network (IPv4 /24, IPv6 /48) that is none of the last four that it was used from. Default `log`. */
  network?: AnomalyAction;
  /** With a `User-Agent` that is none of its last four. Default `log`. */
  agent?: AnomalyAction;
  /** From two networks within 60 s, by requests or handshakes, or while a socket from another one is open. Default `log`. */
  places?: AnomalyAction;
  /** By more requests and handshakes than a person and a browser make. Default: 1,000 within 10 s, `log`. */
  rate?: AnomalyAction | RateAnomalyConfig;
  /** By a secret that was replaced long ago (`dead-secret`): such a request never gets the session. `ban`: its client is banned, too. Default `log`. */
  secret?: 'log' | 'ban';
}

export interface RateAnomalyConfig {
  /** Default 1000. */
  requests?: number;
  /** Default `10s`; at most `1h`. */
  within?: Duration;
  /** Default `log`. */
  action?: AnomalyAction;
}

export interface AnomalySettings {
  readonly network: AnomalyAction;
  readonly agent: AnomalyAction;
  readonly places: AnomalyAction;
  readonly rate: { readonly requests: number; readonly withinMs: number; readonly action: AnomalyAction };
  readonly secret: 'log' | 'ban';
}

/** With all defaults; undefined: nothing is looked at. */
export function readAnomalySettings(config: AnomaliesConfig | false = {}): AnomalySettings | undefined {
  if (config === false) return undefined;
  const { network = 'log', agent = 'log', places = 'log', rate = {}, secret = 'log' } = config;
  const { requests = 1_000, within = '10s', action = 'log' } = typeof rate === 'string' ? { action: rate } : rate;
  return { network, agent, places, rate: { requests, withinMs: parseDuration(within), action }, secret };
}
