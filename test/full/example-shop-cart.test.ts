import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { start } from '../examples/example-client.ts';
import { Visitor } from '../examples/visitor.ts';

interface State {
  user: string | null;
  cart: string[];
  total: number;
  isOrdering: boolean;
  orders: { id: string; items: string[] }[];
}

const signIn = (visitor: Visitor, name: string) => visitor.post('/sign-in', new URLSearchParams({ name }));
const state = async (visitor: Visitor) => (await visitor.tab('/live')).next<State>();
const read = async (response: Promise<Response>) => [(await response).status, await (await response).json()];

test('shop-cart: the cart is carried through a cut connection, kill -9, login and checkout', async () => {
  const example = await start('shop-cart');
  const visitor = new Visitor(example);
  expect(await visitor.navigate()).toContain('<title>Shop</title>');
  const tabs = [await visitor.tab('/live'), await visitor.tab('/live')];
  for (const item of ['tea', 'kettle', 'tea', 'cup'])
    expect(await read(visitor.post(`/cart/${item}`))).toMatchObject([200, { user: null }]);
  expect(await read(visitor.call('DELETE', '/cart/cup'))).toMatchObject([
    200,
    { cart: ['tea', 'kettle', 'tea'], total: 48 },
  ]);
  for (const tab of tabs) expect(await tab.next({ total: 48 })).toMatchObject({ cart: ['tea', 'kettle', 'tea'] });
  expect((await visitor.post('/checkout')).status).toBe(401);

  await tabs[0]!.cut();
  await example.kill();
  expect(await tabs[1]!.closed).toBe(1006);
  await example.start();
  expect(await state(visitor)).toMatchObject({ cart: ['tea', 'kettle', 'tea'], total: 48 });

  expect(await read(signIn(visitor, 'ann'))).toMatchObject([200, { user: 'ann', cart: ['tea', 'kettle', 'tea'] }]);
  await example.kill();
  await example.start();
  expect(await state(visitor)).toMatchObject({ user: 'ann', cart: ['tea', 'kettle', 'tea'], orders: [] });

  const tab = await visitor.tab('/live');
  const orders = [{ items: ['tea', 'kettle', 'tea'] }];
  expect(await read(visitor.post('/checkout'))).toMatchObject([201, { cart: [], isOrdering: false, orders }]);
  expect(await tab.next({ total: 0 })).toMatchObject({ orders });
  expect((await visitor.post('/checkout')).status).toBe(409);
  expect(await state(visitor)).toMatchObject({ user: 'ann', cart: [], isOrdering: false, orders });
});

test('shop-cart: after the login the old cookie is dead, and what was opened with it is closed', async () => {
  const example = await start('shop-cart');
  const visitor = new Visitor(example);
  await visitor.navigate();
  await visitor.post('/cart/tea');
  const thief = new Visitor(example);
  thief.cookie = visitor.cookie;
  const listening = await thief.tab('/live');
  expect(await listening.next<State>()).toMatchObject({ cart: ['tea'] });

  await signIn(visitor, 'ann');
  expect(visitor.cookie).not.toBe(thief.cookie);
  expect(await listening.closed).toBe(1012);
  expect(await (await thief.tab('/live')).closed).toBe(1008);
  expect((await thief.post('/checkout')).status).toBe(401);
  expect(await state(visitor)).toMatchObject({ user: 'ann', cart: ['tea'] });

  const tab = await visitor.tab('/live');
  await visitor.post('/sign-out');
  expect(await tab.closed).toBe(1008);
  await visitor.navigate();
  expect(await state(visitor)).toMatchObject({ user: null, cart: [] });
});

test('shop-cart: a checkout that is interrupted, and kill -9 after it, is finished by the next try and orders once', async () => {
  const example = await start('shop-cart');
  const visitor = new Visitor(example);
  await visitor.navigate();
  await signIn(visitor, 'ann');
  await visitor.post('/cart/tea');
  await visitor.post('/cart/cup');

  // Between the first step and the second: no order can be written.
  using orders = new DatabaseSync(join(example.folder, 'data/orders.db'));
  orders.exec('begin immediate');
  expect((await visitor.post('/checkout')).status).toBe(500);
  await example.kill();
  orders.exec('rollback');
  await example.start();
  expect(await state(visitor)).toMatchObject({ cart: [], isOrdering: true, orders: [] });

  await visitor.post('/cart/kettle');
  const first = { items: ['tea', 'cup'] };
  expect(await read(visitor.post('/checkout'))).toMatchObject([
    201,
    { cart: ['kettle'], isOrdering: false, orders: [first] },
  ]);
  const second = { items: ['kettle'] };
  expect(await read(visitor.post('/checkout'))).toMatchObject([201, { cart: [], orders: [first, second] }]);
  expect((await visitor.post('/checkout')).status).toBe(409);

  // In the middle of one, wherever that was: it is an order, or on its way, or still in the cart.
  await visitor.post('/cart/cup');
  const interrupted = visitor.post('/checkout').catch(() => undefined);
  await example.kill();
  const answer = await interrupted;
  await example.start();
  const found = await state(visitor);
  if (answer?.status === 201) expect(found.orders).toHaveLength(3);
  expect(found.orders.length + Number(found.isOrdering) + found.cart.length).toBe(3);
  await visitor.post('/checkout');
  expect(await state(visitor)).toMatchObject({ cart: [], orders: [first, second, { items: ['cup'] }] });
});

test('shop-cart: two tabs lose nothing that they add at once, and order it once', async () => {
  const example = await start('shop-cart');
  const visitor = new Visitor(example);
  await visitor.navigate();
  await signIn(visitor, 'ann');
  await Promise.all(Array.from({ length: 20 }, (_, index) => visitor.post(`/cart/${index % 2 ? 'tea' : 'cup'}`)));
  const statuses = await Promise.all([1, 2, 3].map(async () => (await visitor.post('/checkout')).status));
  expect(statuses).toContain(201);
  const { cart, orders } = await state(visitor);
  expect(cart).toEqual([]);
  expect(orders).toHaveLength(1);
  expect(orders[0]!.items.toSorted()).toEqual([...Array(10).fill('cup'), ...Array(10).fill('tea')]);
  expect((await visitor.post('/cart/horse')).status).toBe(404);
});
