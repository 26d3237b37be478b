import { isIP } from 'node:net';
import { type AddressLists, createAddressRules } from '../http/address-rules.ts';
import { refuse } from '../http/refusal.ts';
import type { LastingPolicy } from './policy.ts';

/**
 * Which addresses may come in: those of clients, as far as trusted proxies say them. A client without an address (a
 * Unix socket, an untold one behind a proxy) is in no block. Others get 403 (ERR_POLICY_ADDRESS).
 *
 * @throws {TypeError} when an entry is neither an address nor a block. The message names it.
 */
export function createAddressPolicy(lists: AddressLists): LastingPolicy {
  const verdictOn = createAddressRules(lists);
  return ({ clientAddress }) => {
    if (verdictOn(clientAddress) === 'allow') return undefined;
    const client = isIP(clientAddress) ? `the address ${clientAddress}` : 'a client whose address is not known';
    return refuse(403, 'ERR_POLICY_ADDRESS', `${client} is not allowed here`, {
      body: 'This address is not allowed.\n',
    });
  };
}
