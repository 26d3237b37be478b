import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { AddressList } from '../../http/address-list.ts';
import { clientNetwork } from '../../http/client-network.ts';

/** As long as the log of security events counts what is one too many. */
const WINDOW_MS = 10_000;
/** Lines of one client in a window: an IPv4 address, or the /64 of an IPv6 address. */
const LINES_PER_CLIENT = 20;
/** Lines of all clients together. It bounds how many clients are remembered, too. */
const LINES_OF_ALL = 1_000;

export interface LineAllowanceEnvironment {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Many clients come through them: only the limit of all clients holds. */
  readonly trustedProxies: AddressList;
}

/**
 * How many lines of the access log clients can make by what is not a request. Such a line costs a client a few bytes and
 * no route, rate or ban has had a say, so without a limit it would be the cheapest way to fill a disk.
 *
 * What is left out is counted, and the log says how much it was.
 */
export class LineAllowance {
  readonly #environment: LineAllowanceEnvironment;
  readonly #ofClients = new Map<string, number>();
  #left = LINES_OF_ALL;
  #until = Number.NEGATIVE_INFINITY;
  #leftOut = 0;
  #timer: Timer | undefined;

  constructor(environment: LineAllowanceEnvironment) {
    this.#environment = environment;
  }

  /** May this client have one more line? */
  allows(address: string): boolean {
    const { clock, trustedProxies } = this.#environment;
    const now = clock.monotonic();
    if (now >= this.#until) this.#begin(now);
    const client = trustedProxies.contains(address) ? undefined : clientNetwork(address);
    const lines = client === undefined ? 0 : (this.#ofClients.get(client) ?? 0);
    if (this.#left === 0 || lines >= LINES_PER_CLIENT) {
      this.#leftOut++;
      this.#timer ??= clock.setTimeout(() => this.#say(), this.#until - now);
      return false;
    }
    this.#left--;
    if (client !== undefined) this.#ofClients.set(client, lines + 1);
    return true;
  }

  /** Says what was left out and is not said yet. */
  close(): void {
    this.#environment.clock.clearTimeout(this.#timer);
    this.#say();
  }

  #begin(now: number): void {
    this.#until = now + WINDOW_MS;
    this.#left = LINES_OF_ALL;
    this.#ofClients.clear();
  }

  #say(): void {
    this.#timer = undefined;
    const lines = this.#leftOut;
    this.#leftOut = 0;
    if (lines > 0)
      this.#environment.logger.warn(
        { event: 'access-lines-left-out', lines },
        'clients send much that is not a request: so many lines of it were left out of the access log',
      );
  }
}
