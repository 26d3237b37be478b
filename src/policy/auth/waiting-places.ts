import { clientNetwork } from '../../http/client-network.ts';

/**
 * Places for what waits for somebody else's answer. Clients of one network (an address; of IPv6 a /64) have a part of
 * them, so that one that asks for many waits for itself.
 */
export class WaitingPlaces {
  readonly #most: number;
  readonly #mostOfNetwork: number;
  readonly #networks = new Map<string, number>();
  #count = 0;

  constructor({ most, mostOfNetwork }: { readonly most: number; readonly mostOfNetwork: number }) {
    this.#most = most;
    this.#mostOfNetwork = mostOfNetwork;
  }

  /**
   * @param address Of the client; `''` when that is not known, or nobody's: all places are for these.
   * @returns what is to be called once, when it waits no more; or the number of places that are all taken.
   */
  take(address: string): (() => void) | number {
    if (this.#count >= this.#most) return this.#most;
    const network = clientNetwork(address);
    const own = network === undefined ? 0 : (this.#networks.get(network) ?? 0);
    if (own >= this.#mostOfNetwork) return this.#mostOfNetwork;
    this.#count++;
    if (network !== undefined) this.#networks.set(network, own + 1);
    return () => {
      this.#count--;
      if (network === undefined) return;
      const rest = this.#networks.get(network)! - 1;
      if (rest > 0) this.#networks.set(network, rest);
      else this.#networks.delete(network);
    };
  }
}
