import type { TransportConfig } from '../policy/transport.ts';
import type { AddressesConfig, Config, LimitsConfig, PolicyConfig } from './config.ts';

/** What holds for a route, with what holds for the server and the application that it is in. */
export interface InheritedPolicy extends Omit<PolicyConfig, 'addresses' | 'limits'> {
  /** All of them have to let a client in: a route lifts no list of the server. */
  readonly addresses: readonly AddressesConfig[];
  /** All of them hold. */
  readonly limits: readonly LimitsConfig[];
}

/** What holds for every route of a server. Its own list of addresses, and its limits, are judged before there is a route. */
export function serverPolicy({ policy }: Pick<Config, 'policy'>): InheritedPolicy {
  return { ...policy, addresses: [], limits: [] };
}

/** The policy of something that lies within `outer`: its own word counts, and addresses and limits are added up. */
export function within(outer: InheritedPolicy, { addresses, limits, ...own }: PolicyConfig = {}): InheritedPolicy {
  return {
    ...outer,
    ...own,
    addresses: addresses ? [...outer.addresses, addresses] : outer.addresses,
    limits: limits ? [...outer.limits, limits] : outer.limits,
  };
}

/** `transport` in its long form. */
export function transportOf({ transport }: Pick<PolicyConfig, 'transport'>): TransportConfig {
  if (typeof transport === 'object') return transport;
  return transport === 'confidential' ? { confidential: 'refuse' } : {};
}
