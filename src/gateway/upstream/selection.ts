import type { RequestHead } from '../../http/request-head.ts';
import { hidesLaxCookies, requestSite } from '../../http/request-site.ts';
import type { Affinity, Tie, TiedRequest } from './affinity.ts';
import { type Balance, choose, rendezvous } from './balancing.ts';
import type { RetryBudget } from './retry-budget.ts';
import type { UpstreamServer } from './server.ts';

/** What a selection needs of its upstream. */
export interface SelectionSource {
  readonly servers: readonly UpstreamServer[];
  readonly balance: Balance;
  readonly affinity: Affinity;
  readonly maxRetries: number;
  readonly budget: RetryBudget;
  readonly counters: { moves: number; retries: number; clientViolations: number };
  /** Tells other processes of a move. */
  announce?: ((key: string, server: UpstreamServer) => void) | undefined;
}

/** The servers that one request is given, one after the other until one takes it. */
export class Selection {
  readonly #source: SelectionSource;
  /** Undefined where it depends on nothing, because there is no cookie of ours. */
  readonly #request: TiedRequest | undefined;
  readonly #tie: Tie | undefined;
  readonly #home: UpstreamServer | undefined;
  readonly #tried: UpstreamServer[] = [];

  constructor(source: SelectionSource, head: RequestHead, sid: string | undefined) {
    const { affinity, servers } = source;
    this.#source = source;
    if (affinity.ownCookie !== undefined) {
      const isCookieHidden = hidesLaxCookies(head.method, requestSite(head.headers, head));
      this.#request = { isSecure: head.isSecure, isCookieHidden };
    }
    this.#tie = affinity.tieOf(head, sid, servers);
    if (this.#tie) {
      const natural = this.#tie.named?.[0] ?? rendezvous(this.#tie.key, servers);
      this.#home = affinity.movedTo(this.#tie, servers) ?? natural;
    }
    source.budget.onRequest();
  }

  /**
   * The servers that the client is tied to and may not leave: each one that its session names, or its own. Undefined
   * where it may leave them, and when all of them are being drained.
   */
  get onlyServers(): readonly UpstreamServer[] | undefined {
    const home = this.#home;
    if (!this.#source.affinity.isStrict || !home) return undefined;
    const named = this.#tie?.named?.includes(home) ? this.#tie.named : [home];
    const staying = named.filter(server => server.state !== 'draining');
    return staying.length > 0 ? staying : undefined;
  }

  /** The server to try next; undefined when there is none, or there were enough tries. */
  next(): UpstreamServer | undefined {
    const { budget, counters, maxRetries } = this.#source;
    const isRetry = this.#tried.length > 0;
    if (this.#tried.length > maxRetries) return undefined;
    const server = this.#pick();
    if (server === undefined || (isRetry && !budget.take())) return undefined;
    if (isRetry) counters.retries++;
    this.#tried.push(server);
    return server;
  }

  /** Why `next` gave this one, in a few words. */
  whyOf(server: UpstreamServer): string {
    const { balance, affinity } = this.#source;
    if (this.#tried.indexOf(server) > 0) return 'the one before gave no answer';
    if (!this.#tie) return `no affinity; balance ${balance}`;
    if (this.#home !== server) return `affinity by ${affinity.by}, whose server ${this.#home?.url} is not in service`;
    return `affinity by ${affinity.by}`;
  }

  /**
   * The server has answered: the client belongs to it from now on.
   *
   * @returns the value of a `Set-Cookie` header that says so, when that is needed.
   */
  accepted(server: UpstreamServer): string | undefined {
    const { affinity, counters } = this.#source;
    server.succeeded();
    if (this.#tie && this.#home !== server) {
      counters.moves++;
      const key = affinity.remember(this.#tie, server);
      if (key !== undefined) this.#source.announce?.(key, server);
    }
    return this.#request && affinity.cookieFor(server, this.#tie, this.#request);
  }

  #pick(): UpstreamServer | undefined {
    const { named } = this.#tie ?? {};
    for (const own of [this.#home, ...(named ?? [])])
      if (own && !this.#tried.includes(own) && (own.state === 'in-service' || (named && own.isStaying))) return own;
    const servers = this.onlyServers ?? this.#source.servers;
    const free = servers.filter(server => server.state === 'in-service' && !this.#tried.includes(server));
    if (free.length > 0) return this.#among(free);
    // Nobody is in service: one that refused may be back already.
    return this.#among(servers.filter(server => server.isWorthATry && !this.#tried.includes(server)));
  }

  /** By the key where there is one, so that every process moves a client to the same server. */
  #among(servers: readonly UpstreamServer[]): UpstreamServer | undefined {
    if (!this.#tie) return choose(this.#source.balance, servers);
    return this.#tie.named?.find(server => servers.includes(server)) ?? rendezvous(this.#tie.key, servers);
  }
}
