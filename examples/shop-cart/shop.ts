import { randomUUID } from 'node:crypto';

export const PRICES: ReadonlyMap<string, number> = new Map([
  ['tea', 4.5],
  ['cup', 12],
  ['kettle', 39],
]);

export interface Order {
  readonly id: string;
  readonly items: readonly string[];
}

/** What a visitor has in the shop: one attribute of the session, so that an item is in the cart or in an order, never in both. */
export interface Shop {
  readonly cart: readonly string[];
  /** On its way from the cart to the orders. */
  readonly order?: Order | undefined;
}

const EMPTY: Shop = { cart: [] };
const MAX_ITEMS = 100;

export function add(shop: Shop = EMPTY, item: string): Shop {
  return shop.cart.length < MAX_ITEMS ? { ...shop, cart: [...shop.cart, item] } : shop;
}

export function remove(shop: Shop = EMPTY, item: string): Shop {
  const index = shop.cart.indexOf(item);
  return { ...shop, cart: shop.cart.filter((_, at) => at !== index) };
}

/** Turns the cart into an order. One that was begun and not finished comes first: nothing is ordered twice. */
export function beginOrder(shop: Shop = EMPTY): Shop {
  if (shop.order || shop.cart.length === 0) return shop;
  return { cart: [], order: { id: randomUUID(), items: shop.cart } };
}

export function finishOrder(shop: Shop = EMPTY, id: string): Shop {
  return shop.order?.id === id ? { cart: shop.cart } : shop;
}
