import { hash } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { RecentMap } from '../base/recent-map.ts';
import type { SecurityEventName } from '../base/security-events.ts';
import { addressOf, groupsOf } from '../http/ip-address.ts';
import type { RequestHead } from '../http/request-head.ts';
import type { AnomalyAction, AnomalySettings } from './anomaly-options.ts';
import type { Bans } from './ban/bans.ts';
import type { SecurityEvents } from './security-events.ts';

/** Sessions that are known at a time, each with some hundred bytes. */
const MAX_SESSIONS = 50_000;
/** Networks and agents of a session that are no news. */
const MAX_KNOWN = 4;
/** Two networks within this time are two places. */
const PLACES_MS = 60_000;
/** The first ban for an anomaly. */
const BAN_MS = 600_000;

interface Known {
  /** The latest last. */
  readonly networks: string[];
  readonly agents: string[];
  /** Of its last use from the latest network, while there is one. */
  address: string | undefined;
  /** When it was used from the latest network. */
  usedAt: number;
  /** Of the window in which requests are counted. */
  since: number;
  requests: number;
  /** When it was last moved to the end of the map. */
  keptAt: number;
}

/** What becomes of a request whose session is used so. */
export type AnomalyVerdict = 'allow' | 'challenge' | 'end' | 'ban';

/** A session as it is used, and whose sockets are open. */
export interface UsedSession {
  readonly sid: string;
  readonly owner?: string | undefined;
  /** Who the clients of its open sockets are. Asked only when its network is another one. */
  readonly socketAddresses: () => Iterable<string>;
}

const STRENGTH: readonly AnomalyAction[] = ['off', 'log', 'challenge', 'end', 'ban'];

/** Notices when a session is used as it was not before, in this process. */
export class Anomalies {
  readonly #settings: AnomalySettings;
  readonly #clock: Clock;
  readonly #events: SecurityEvents;
  readonly #bans: Pick<Bans, 'punish'>;
  readonly #sessions = new RecentMap<string, Known>(MAX_SESSIONS);
  readonly #stop: () => void;

  constructor(
    settings: AnomalySettings,
    { clock, events, bans }: { clock: Clock; events: SecurityEvents; bans: Pick<Bans, 'punish'> },
  ) {
    this.#settings = settings;
    this.#clock = clock;
    this.#events = events;
    this.#bans = bans;
    this.#stop = events.listen(({ event, address }) => {
      if (event === 'dead-secret' && settings.secret === 'ban' && typeof address === 'string')
        bans.punish(address, 'anomaly', BAN_MS, 'a dead secret was shown');
    });
  }

  close(): void {
    this.#stop();
  }

  /** Sessions that are known. */
  get size(): number {
    return this.#sessions.size;
  }

  /** One use of a session, by a request or a handshake. What is unusual is reported; the strongest action counts. */
  judge(head: Pick<RequestHead, 'clientAddress' | 'headers'>, session: UsedSession): AnomalyVerdict {
    const now = this.#clock.monotonic();
    const address = head.clientAddress;
    const agent = hash('sha256', head.headers['user-agent'] ?? '', 'base64url').slice(0, 16);
    const known = this.#sessions.get(session.sid);
    // Of most requests it is that of the request before.
    const network = known && known.address === address ? known.networks.at(-1) : networkOf(address);
    if (!known) {
      const networks = network === undefined ? [] : [network];
      const first = { networks, agents: [agent], address: network && address };
      this.#sessions.set(session.sid, { ...first, usedAt: now, since: now, requests: 1, keptAt: now });
      return 'allow';
    }
    if (now - known.keptAt > PLACES_MS) {
      known.keptAt = now;
      this.#sessions.set(session.sid, known);
    }
    const { rate, places, network: onNetwork, agent: onAgent } = this.#settings;
    const found: [SecurityEventName, AnomalyAction, string][] = [];
    const requests = countRequest(known, now, rate.withinMs);
    if (requests >= rate.requests)
      found.push(['session-rate', rate.action, `more than ${rate.requests} requests within ${rate.withinMs} ms`]);
    const isOther = network !== undefined && known.networks.at(-1) !== network;
    if (isOther && known.networks.length > 0) {
      const isBusy = now - known.usedAt < PLACES_MS || hasOther(session.socketAddresses(), network);
      if (isBusy) found.push(['session-two-places', places, 'used from two networks at once']);
      if (!known.networks.includes(network))
        found.push(['session-new-network', onNetwork, 'used from a network that it was not used from before']);
    }
    const isNewAgent = !known.agents.includes(agent);
    if (isNewAgent) found.push(['session-new-agent', onAgent, 'used by another agent than before']);
    let strongest = 1;
    for (const [event, action, reason] of found) {
      strongest = Math.max(strongest, STRENGTH.indexOf(action));
      // Of one window the first that is too many has its line.
      if (action !== 'off' && (event !== 'session-rate' || requests === rate.requests))
        this.#report(event, head.clientAddress, session, action, reason);
    }
    const verdict = STRENGTH[strongest]!;
    if (verdict === 'log') {
      if (isOther) remember(known.networks, network);
      if (network !== undefined) known.address = address;
      if (isNewAgent) remember(known.agents, agent);
      known.usedAt = now;
      return 'allow';
    }
    // Who is not let in is no news the next time either.
    if (verdict !== 'challenge') this.#sessions.delete(session.sid);
    if (verdict === 'ban') this.#bans.punish(head.clientAddress, 'anomaly', BAN_MS, found[0]![2]);
    return verdict as AnomalyVerdict;
  }

  #report(event: SecurityEventName, address: string, session: UsedSession, action: string, reason: string): void {
    this.#events.report({ event, address, sid: session.sid, user: session.owner, action, reason });
  }
}

function countRequest(known: Known, now: number, withinMs: number): number {
  if (now - known.since >= withinMs) {
    known.since = now;
    known.requests = 0;
  }
  return ++known.requests;
}

function remember(list: string[], value: string): void {
  const at = list.indexOf(value);
  if (at !== -1) list.splice(at, 1);
  list.push(value);
  if (list.length > MAX_KNOWN) list.shift();
}

function hasOther(addresses: Iterable<string>, network: string): boolean {
  for (const address of addresses) {
    const other = networkOf(address);
    if (other !== undefined && other !== network) return true;
  }
  return false;
}

/** The /24 of an IPv4 address, the /48 of an IPv6 address; undefined for what is no address. */
export function networkOf(address: string): string | undefined {
  const read = groupsOf(address);
  if (!read) return undefined;
  const { family, groups } = read;
  return family === 'ipv4'
    ? `${addressOf([...groups.slice(0, 3), 0])}/24`
    : `${addressOf([...groups.slice(0, 3), 0, 0, 0, 0, 0])}/48`;
}
