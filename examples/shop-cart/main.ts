import { join } from 'node:path';
import { CloseCode, createServer, defineEndpoint, type FetchHandler, type Session } from 'holdfast';
import { Orders } from './orders.ts';
import { add, beginOrder, finishOrder, PRICES, remove, type Shop } from './shop.ts';

declare module 'holdfast' {
  interface SessionData {
    shop: Shop;
  }
}

const orders = new Orders('./data/orders.db');

/** Shows every tab of the visitor what is in the cart, whichever of them has changed it. */
const live = defineEndpoint({
  path: '/live',
  onOpen(connection) {
    const { session } = connection;
    // A refused handshake would be 1006 to the page, as a lost connection is. This code tells it not to try again.
    if (!session) return connection.close(CloseCode.policyViolation, 'no session');
    connection.subscribe(`shop:${session.id}`);
    connection.send(stateOf(session));
  },
});

function stateOf(session: Session): string {
  const { cart, order } = session.get('shop') ?? { cart: [] };
  const total = cart.reduce((sum, item) => sum + PRICES.get(item)!, 0);
  const user = session.owner?.name ?? null;
  return JSON.stringify({ user, cart, total, isOrdering: order !== undefined, orders: user ? orders.of(user) : [] });
}

/** The new state, for all tabs and as the answer. What `update` has changed is on disk. */
function answer(session: Session, status = 200): Response {
  const state = stateOf(session);
  server.publish(`shop:${session.id}`, state);
  return new Response(state, { status, headers: { 'content-type': 'application/json' } });
}

const addItem: FetchHandler = async (_request, { session, params }) => {
  if (!PRICES.has(params.item!)) return new Response('we do not have that', { status: 404 });
  await session!.update('shop', shop => add(shop, params.item!)); // also right when two tabs add at the same time
  return answer(session!);
};

const removeItem: FetchHandler = async (_request, { session, params }) => {
  await session!.update('shop', shop => remove(shop, params.item!));
  return answer(session!);
};

const signIn: FetchHandler = async (request, { session }) => {
  if (session?.owner) return new Response('sign out first', { status: 409 });
  const name = String((await request.formData()).get('name')).trim();
  if (!/^[\p{L}\p{N} -]{1,32}$/u.test(name)) return new Response('a name has 1 to 32 letters', { status: 400 });
  // The same session, with the cart in it, under a new secret: the cookie from before the login is dead from here on, and sockets that were
  // opened with it close with 1012, because whoever planted that cookie may listen. The pages come back with the new one.
  return answer(await server.sessions.signIn(request, { name, roles: [] }));
};

const signOut: FetchHandler = async (_request, { session }) => {
  await session?.invalidate('logout'); // its sockets close with 1008
  return new Response(null, { status: 204 });
};

const checkout: FetchHandler = async (_request, { session }) => {
  if (!session?.owner) return new Response('sign in first', { status: 401 });
  // Wherever this is interrupted, and however many tabs do it at once: trying again goes on from there, and orders nothing twice.
  const { order } = await session.update('shop', beginOrder);
  if (!order) return new Response('the cart is empty', { status: 409 });
  orders.place(session.owner.name, order);
  await session.update('shop', shop => finishOrder(shop, order.id));
  return answer(session, 201);
};

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: { store: 'lmdb:./data/sessions', idleTimeout: '7d', absoluteTimeout: '30d' },
  routes: [
    { endpoint: live },
    { path: '/cart/:item', methods: ['POST'], session: 'create', fetch: addItem },
    { path: '/cart/:item', methods: ['DELETE'], session: 'create', fetch: removeItem },
    { path: '/sign-in', methods: ['POST'], fetch: signIn },
    { path: '/sign-out', methods: ['POST'], fetch: signOut },
    { path: '/checkout', methods: ['POST'], fetch: checkout },
    { path: '/*', session: 'auto', files: join(import.meta.dirname, 'public') },
  ],
});
await server.start();
console.log(`open ${server.urls[0]}`);
