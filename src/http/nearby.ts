import { type AddressList, createAddressList } from './address-list.ts';

/** Where a proxy that nobody has declared may stand: RFC 1122, 1918, 3927, 6598, 4193, 4291. */
export const nearbyAddresses: AddressList = createAddressList([
  ...['127.0.0.0/8', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '169.254.0.0/16', '100.64.0.0/10'],
  ...['::1', 'fc00::/7', 'fe80::/10'],
]);
