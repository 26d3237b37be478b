/** What balancing needs to know of a server. */
export interface Balanced {
  /** A share of the work relative to the other servers' weights. At least 1. */
  readonly weight: number;
  /** Stands for the server wherever a hash decides: the same in every process and after every restart. */
  readonly hashSeed: number;
  /** Requests and WebSockets under way. */
  readonly active: number;
  /** Belongs to `roundRobin`. */
  turn: number;
}

/**
 * How a request that is tied to no server finds one: `round-robin`, `least-connections` (requests and WebSockets under
 * way), both by weight, or `in-order`: the first that is in service.
 */
export type Balance = 'round-robin' | 'least-connections' | 'in-order';

/** The server whose turn it is, or undefined when there is none. */
export function choose<S extends Balanced>(balance: Balance, servers: readonly S[]): S | undefined {
  if (servers.length < 2 || balance === 'in-order') return servers[0];
  return roundRobin(balance === 'least-connections' ? leastBusy(servers) : servers);
}

/**
 * Each server gets its weight's share, and those of a heavy one are spread between the others: each gains its weight
 * with every choice, the one that is ahead is taken and pays for all.
 */
function roundRobin<S extends Balanced>(servers: readonly S[]): S {
  let best = servers[0]!;
  let total = 0;
  for (const server of servers) {
    total += server.weight;
    server.turn += server.weight;
    if (server.turn > best.turn) best = server;
  }
  best.turn -= total;
  return best;
}

/** Those with the fewest connections for their weight, the one to come included. */
function leastBusy<S extends Balanced>(servers: readonly S[]): S[] {
  const load = (server: S) => (server.active + 1) / server.weight;
  const least = Math.min(...servers.map(load));
  return servers.filter(server => load(server) === least);
}

/**
 * The server that a key belongs to, by weight (rendezvous hashing): each server draws a number from the key, and the
 * highest wins.
 *
 * Every process chooses the same one. Adding a server moves only the keys that it wins, removing one only those it had.
 */
export function rendezvous<S extends Balanced>(key: string, servers: readonly S[]): S | undefined {
  if (servers.length < 2) return servers[0];
  const hash = hash32(key);
  let best: S | undefined;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const server of servers) {
    // Uniform between 0 and 1, both excluded; the logarithm makes the chances proportional to the weights.
    const draw = (mix(hash ^ server.hashSeed) + 0.5) / 0x1_0000_0000;
    const score = server.weight / -Math.log(draw);
    if (score > bestScore) {
      best = server;
      bestScore = score;
    }
  }
  return best;
}

/** FNV-1a over UTF-16 code units, then mixed. Not for secrets. */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return mix(hash);
}

/** Makes every bit of the result depend on every bit of the value (the finalizer of MurmurHash3). */
function mix(value: number): number {
  let h = value;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
