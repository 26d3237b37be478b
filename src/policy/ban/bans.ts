import type { Clock, Timer } from '../../base/clock.ts';
import { type Duration, parseDuration } from '../../base/duration.ts';
import type { Logger } from '../../base/logger.ts';
import { checkOptions, type OptionNames } from '../../base/options.ts';
import { RecentMap } from '../../base/recent-map.ts';
import { sameValue } from '../../base/same-value.ts';
import { parseAddressBlock } from '../../http/address-block.ts';
import { type AddressList, createAddressList } from '../../http/address-list.ts';
import { clientNetwork } from '../../http/client-network.ts';
import { addressOf } from '../../http/ip-address.ts';
import { type Refusal, refuse } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { Ledger } from '../../session/ledger.ts';
import type { SecurityEvents } from '../security-events.ts';
import { type Ban, BanList, MAX_BANS } from './ban-list.ts';
import { Jail } from './jail.ts';
import type { BanSettings, JailName, JailSettings } from './options.ts';
import { SharedBans } from './shared-bans.ts';

/**
 * Which events a jail counts. Refusals are counted where their status is 429; heads that are too large (431) are not:
 * any page makes browsers send a long URL, and a visitor with too many cookies sends nothing else.
 */
const JAIL_OF: ReadonlyMap<unknown, JailName> = new Map<unknown, JailName>([
  ['login-failed', 'login'],
  ['bad-handshake', 'handshake'],
  ['bad-request', 'protocol'],
  ['client-violation', 'protocol'],
  ['not-found', 'scan'],
  ['honeypot', 'honeypot'],
  ['inspection-ban', 'inspection'],
]);

/** For how long a client that sends forwarded headers is taken for a proxy. */
const SPARED_MS = 3_600_000;
const MAX_SPARED = 10_000;
/** As many as outlive a process. */
const MAX_UNTOLD = 4_096;
/** Between two looks at what other processes have added, and at what may be forgotten. */
const LOOK_EVERY_MS = 30_000;
const LONGEST_BAN_MS = 30 * 86_400_000;

export interface BansOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: SecurityEvents;
  readonly trustedProxies: AddressList;
  /** What processes share them through, and where they are kept. Default: nothing; they end with the process. */
  readonly ledger?: Ledger | undefined;
}

export interface AddBanOptions {
  /** How long: at most `30d`. Default `1h`. */
  readonly for?: Duration;
  /** For the log and for `list`. */
  readonly reason?: string;
}

const ADD_BAN_OPTIONS: OptionNames<AddBanOptions> = { for: 'measure', reason: 'text' };

/** What whoever administers a server may do with bans. */
export interface BanControl {
  add(address: string, options?: AddBanOptions): Promise<Ban>;
  remove(address: string): Promise<boolean>;
  list(): Ban[];
}

/** Whom a ban hits: told when it begins. */
export type BanHit = (address: string) => boolean;

/**
 * Who may not come in for now, because of what it has done: hears security events, counts them in jails, and bans.
 *
 * Never banned are trusted proxies and what the configuration allows.
 */
export class Bans implements BanControl {
  settings!: BanSettings;
  readonly #options: BansOptions;
  readonly #list: BanList;
  #jails!: ReadonlyMap<JailName, Jail>;
  #allowed!: AddressList;
  readonly #shared: SharedBans | undefined;
  readonly #spared = new RecentMap<string, number>(MAX_SPARED);
  /** Bans that other processes have yet to be told of. */
  readonly #untold = new RecentMap<string, Ban>(MAX_UNTOLD);
  #traps!: ReadonlySet<string>;
  #trapPrefixes!: readonly string[];
  readonly #listeners = new Set<(hits: BanHit) => void>();
  #stopListening: (() => void) | undefined;
  #timer: Timer | undefined;

  constructor(settings: BanSettings, options: BansOptions) {
    const { clock, ledger, logger } = options;
    this.#options = options;
    this.#list = new BanList(settings, clock);
    this.adopt(settings);
    const listener = {
      onBan: (ban: Ban) => this.#begin(ban),
      onLift: (client: string) => void this.#list.remove(client),
    };
    this.#shared = ledger && new SharedBans(ledger, listener, logger);
  }

  /** From now on these hold. Bans stay; what jails of other settings have counted is forgotten. */
  adopt(settings: BanSettings): void {
    this.settings = settings;
    this.#list.settings = settings;
    const before: ReadonlyMap<JailName, Jail> | undefined = this.#jails;
    this.#jails = new Map(
      Array.from(settings.jails, ([name, jail]) => {
        const known = before?.get(name);
        return [name, known && sameValue(known.settings, jail) ? known : new Jail(jail)];
      }),
    );
    this.#allowed = createAddressList(settings.allow);
    this.#traps = new Set(settings.traps.map(path => path.replace(/\/\*$/, '')));
    this.#trapPrefixes = settings.traps.filter(path => path.endsWith('/*')).map(path => path.slice(0, -1));
  }

  /** Bans that were made before hold here, too. */
  takeOver(bans: Iterable<Ban>): void {
    for (const ban of bans) if (!this.#list.has(ban.client)) this.#list.set(ban);
  }

  /** Reads the bans that are kept, and begins to listen. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE. */
  async start(): Promise<void> {
    await this.#shared?.start();
    this.#stopListening = this.#options.events.listen(fields => this.#hear(fields));
    this.#schedule();
  }

  /** The ledger may live longer. */
  async close(): Promise<void> {
    this.#stopListening?.();
    this.#options.clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#shared?.close();
  }

  /** Calls `listener` with whom it hits, when a ban begins, in whichever process. */
  onBan(listener: (hits: BanHit) => void): void {
    this.#listeners.add(listener);
  }

  isBanned(address: string): boolean {
    if (this.#list.size === 0) return false;
    const client = clientNetwork(address);
    // Of one /64 one may be allowed, and another banned.
    return client !== undefined && this.#list.has(client) && !this.#isExempt(address);
  }

  /** The step of the flow: may this client come in for now, and does it ask for what nobody asks for in good faith? */
  judge(head: RequestHead): Refusal | undefined {
    const { clientAddress: address, headers } = head;
    if (!head.isPeerTrusted && (headers['x-forwarded-for'] ?? headers.forwarded) !== undefined)
      this.#spare(head.peerAddress);
    if (this.isBanned(address)) return banned();
    if (!this.#isTrap(head.path)) return undefined;
    const crossSite = headers['sec-fetch-site'] === 'cross-site' ? true : undefined;
    const reason = 'a request for a path that is a trap';
    this.#options.events.report({
      event: 'honeypot',
      address,
      method: head.method,
      path: head.path,
      crossSite,
      reason,
    });
    return this.isBanned(address) ? banned() : refuse(404, 'ERR_ROUTE_NOT_FOUND', reason);
  }

  /**
   * Bans a client by hand.
   *
   * @param address An IPv4 address, or an IPv6 address, which stands for its /64.
   * @returns when every process has been told.
   * @throws {TypeError} when it is no address, or one that is never banned; for wrong options; when 50,000 bans that were made by hand hold.
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the others could not be told; it holds in this process.
   */
  async add(address: string, options: AddBanOptions = {}): Promise<Ban> {
    checkOptions('bans.add', options, ADD_BAN_OPTIONS);
    const { for: time = '1h', reason = 'added by hand' } = options;
    const client = clientOf(address);
    const ms = parseDuration(time);
    if (!(ms > 0 && ms <= LONGEST_BAN_MS))
      throw new TypeError(`a ban is for more than 0 ms and at most 30d, not ${JSON.stringify(time)}`);
    // Of a /64 one may be exempt, and the others are not.
    if (this.#isExempt(client.endsWith('/64') ? address.replace(/\/64$/, '') : client))
      throw new TypeError(`${address} is never banned: it is one of trustedProxies or of bans.allow`);
    if (this.#list.isFullByHand(client))
      throw new TypeError(
        `${MAX_BANS} bans were made by hand, which is the most: whole networks are for policy.addresses.deny`,
      );
    const ban = { client, until: this.#options.clock.now() + ms, reason, offence: 1 };
    this.#begin(ban);
    this.#report('banned', client, ban);
    await this.#shared?.add(ban, ms);
    return ban;
  }

  /** Lets a client in again, and forgets what it has done. @returns false when it was not banned. @throws as `add`. */
  async remove(address: string): Promise<boolean> {
    const client = clientOf(address);
    const ban = this.#list.remove(client);
    if (ban) this.#report('ban-lifted', client, { ...ban, reason: 'removed by hand' });
    await this.#shared?.lift(client);
    return ban !== undefined;
  }

  /** The bans that hold now, in the order in which they were made. */
  list(): Ban[] {
    return this.#list.list();
  }

  #hear(fields: Readonly<Record<string, unknown>>): void {
    const { event, address, status, crossSite } = fields;
    // Of what a page of another site has made it send, the visitor need not know.
    if (crossSite || status === 431) return;
    const name = event === 'refused' && status === 429 ? 'rate' : JAIL_OF.get(event);
    const jail = name && this.#jails.get(name);
    if (!jail || typeof address !== 'string') return;
    this.#count(name, jail, address);
  }

  #count(name: JailName, jail: Jail, address: string): void {
    const client = clientNetwork(address);
    if (client === undefined || this.#isExempt(address) || this.#list.has(client)) return;
    if (!jail.note(client, this.#options.clock.monotonic())) return;
    this.#sentence(client, address, name, jail.settings.banMs, reasonOf(name, jail.settings));
  }

  /** Bans for something that no jail counts, under the rules that hold for jails. */
  punish(address: string, name: string, banMs: number, reason: string): void {
    const client = clientNetwork(address);
    if (client === undefined || this.#isExempt(address) || this.#list.has(client)) return;
    this.#sentence(client, address, name, banMs, reason);
  }

  #sentence(client: string, address: string, jail: string, banMs: number, reason: string): void {
    if (this.#isSpared(client))
      return this.#report('ban-spared', address, { client, jail, reason: `${reason}; ${SPARED}` });
    if (this.settings.action === 'log') return this.#report('ban-due', address, { client, jail, reason });
    const ban = this.#list.next(client, banMs, { jail, reason });
    this.#begin(ban);
    this.#report('banned', address, ban);
    this.#share(ban).catch(error => {
      if (!this.#isLatest(ban)) return;
      this.#untold.set(client, ban);
      this.#options.logger.warn({ err: error }, 'a ban could not be told to other processes; trying again');
    });
  }

  /** For as long as it counts, with what it counts for those that come after it. */
  async #share(ban: Ban): Promise<void> {
    const keptMs = ban.until - this.#options.clock.now() + ban.offence * this.settings.forgetMs;
    if (keptMs > 0) await this.#shared?.add(ban, keptMs);
  }

  /** What could not be told while the ledger was away. Never rejects: what fails again waits for the next time. */
  async #tellRest(): Promise<void> {
    for (const [client, ban] of this.#untold) {
      try {
        if (this.#isLatest(ban)) await this.#share(ban);
      } catch {
        return;
      }
      if (this.#untold.get(client) === ban) this.#untold.delete(client);
    }
  }

  /** It was not lifted, and no other has followed it. */
  #isLatest(ban: Ban): boolean {
    return this.#list.latest(ban.client) === ban;
  }

  #begin(ban: Ban): void {
    this.#list.set(ban);
    if (!this.#list.has(ban.client)) return;
    const hits: BanHit = address => clientNetwork(address) === ban.client && !this.#isExempt(address);
    for (const listener of this.#listeners) listener(hits);
  }

  #isExempt(address: string): boolean {
    return this.#options.trustedProxies.contains(address) || this.#allowed.contains(address);
  }

  #isTrap(path: string): boolean {
    return this.#traps.has(path) || this.#trapPrefixes.some(prefix => path.startsWith(prefix));
  }

  #spare(address: string): void {
    const client = this.settings.sparesProxies ? clientNetwork(address) : undefined;
    if (client !== undefined) this.#spared.set(client, this.#options.clock.monotonic() + SPARED_MS);
  }

  #isSpared(client: string): boolean {
    return (this.#spared.get(client) ?? 0) > this.#options.clock.monotonic();
  }

  #report(
    event: 'banned' | 'ban-due' | 'ban-spared' | 'ban-lifted',
    address: string,
    { until, ...about }: Partial<Ban> & Pick<Ban, 'client' | 'reason'>,
  ): void {
    const ends = until === undefined ? undefined : new Date(until).toISOString();
    this.#options.events.report({ event, address: address.replace(/\/64$/, ''), ...about, until: ends });
  }

  #schedule(): void {
    this.#timer = this.#options.clock.setTimeout(() => {
      this.#list.sweep();
      void this.#tellRest();
      void this.#shared?.look();
      this.#schedule();
    }, LOOK_EVERY_MS);
  }
}

const SPARED =
  'it sends forwarded headers: name the proxy in trustedProxies, or, if there is none, set bans.undeclaredProxies to "ban"';

function reasonOf(name: JailName, { failures, withinMs }: JailSettings): string {
  return `${name}: ${failures} within ${Math.round(withinMs / 1_000)} s`;
}

function banned(): Refusal {
  return refuse(403, 'ERR_POLICY_BANNED', 'the client is banned for now', {
    body: 'This address is banned for now.\n',
  });
}

/** @throws {TypeError} when it is not the address of one client. */
function clientOf(text: string): string {
  const block = typeof text === 'string' ? parseAddressBlock(text) : undefined;
  const isWhole = block && (block.family === 'ipv4' ? block.bits === 32 : block.bits === 128 || block.bits === 64);
  const client = isWhole ? clientNetwork(addressOf(block.groups)) : undefined;
  if (client !== undefined) return client;
  throw new TypeError(
    `not a client: ${JSON.stringify(text)}; write an IPv4 address such as "192.0.2.7", or an IPv6 address, which stands for its /64; whole networks are for policy.addresses.deny`,
  );
}
