import { type AcceptRefusal, defineConfig, defineEndpoint, type Handshake, type Session } from 'holdfast';
import { anything, hostileValues } from './hostile-values.ts';

/*
 * A server whose application throws, rejects with, returns or passes whatever value it is told to, wherever it is
 * told to: the query says `how` and names the `value`.
 */

type Listeners = Parameters<typeof defineConfig>[0]['listen'];

/** Types keep an application from this, and JavaScript does not. */
type Any = never;

const orderIn = (query: URLSearchParams) => ({
  how: query.get('how'),
  value: anything[query.get('value')!] ?? hostileValues[query.get('value')!]!.make,
});

function throwOrReturn(where: string, query: URLSearchParams): unknown {
  const { how, value } = orderIn(query);
  if (how === `${where} throws`) throw value();
  if (how === `${where} rejects`) return Promise.reject(value());
  if (how === `${where} returns`) return value();
  return undefined;
}

function accept({ query }: Handshake): Any {
  const { how, value } = orderIn(query);
  switch (how) {
    case 'accept refuses with the status':
      return { status: value() } as Any;
    case 'accept refuses with the body':
      return { status: 400, body: value() } as Any;
    case 'accept refuses with the header':
      return { status: 400, headers: { 'X-A': value() } } as Any;
    case 'accept refuses with the headers':
      return { status: 400, headers: value() } as AcceptRefusal as Any;
    case 'accept adds the header':
      return { headers: { 'X-A': value() } } as Any;
    case 'accept adds the headers':
      return { headers: value() } as Any;
    case 'accept chooses the subprotocol':
      return { subprotocol: value() } as Any;
    case 'accept gives the data':
      return { data: value() } as Any;
    default:
      return (throwOrReturn('accept', query) ?? true) as Any;
  }
}

function body(chunks: readonly unknown[], isLate = false): ReadableStream {
  return new ReadableStream({
    async start(controller) {
      for (const chunk of chunks) {
        controller.enqueue(chunk);
        if (isLate) await new Promise(resolve => setTimeout(resolve, 5));
      }
      controller.close();
    },
  });
}

/** A Response of another implementation, or of none. */
function foreign(response: object): Any {
  return { status: 200, statusText: '', headers: new Headers(), body: null, ...response } as Any;
}

const reader = (read: () => Promise<unknown>) => ({ getReader: () => ({ read, cancel: () => {} }) });

async function answer(how: string, value: () => unknown): Promise<Any> {
  switch (how) {
    case 'the body is':
      return new Response(value() as Any) as Any;
    case 'the body yields':
      return new Response(body([value()])) as Any;
    case 'the body yields first':
      return new Response(body([value(), Buffer.from('rest')])) as Any;
    case 'the body yields later':
      return new Response(body([Buffer.from('first'), value(), Buffer.from('rest')], true)) as Any;
    case 'the body fails with':
      return new Response(new ReadableStream({ start: controller => controller.error(value()) })) as Any;
    case 'the reader of the body answers':
      return foreign({ body: reader(async () => value()) });
    case 'the status is':
      return foreign({ status: value() });
    case 'the status text is':
      return foreign({ statusText: value() });
    case 'the headers have':
      return foreign({ headers: new Map([['x-a', value()]]) });
    default:
      return new Response('nothing to do') as Any;
  }
}

async function useSession(how: string, value: () => unknown, session: Session): Promise<void> {
  const given = value() as Any;
  if (how === 'session.set') session.set('name' as Any, given);
  if (how === 'session.set, name') session.set(given, 1 as Any);
  if (how === 'session.get') session.get(given);
  if (how === 'session.has') session.has(given);
  if (how === 'session.delete') session.delete(given);
  if (how === 'session.update') await session.update('name' as Any, () => given);
  if (how === 'session.update, change') await session.update('name' as Any, given);
  if (how === 'session.scope') session.scope(given).set('name' as Any, 1 as Any);
  if (how === 'session.idleTimeoutMs') session.idleTimeoutMs = given;
  if (how === 'session.renew') await session.renew(given);
  if (how === 'session.renew, owner') await session.renew({ owner: given });
  if (how === 'session.renew, name') await session.renew({ owner: { name: given, roles: [] } });
  if (how === 'session.invalidate') await session.invalidate(given);
}

export function callbackValuesConfig(listen: Listeners) {
  const endpoint = defineEndpoint({
    path: '/socket',
    accept,
    onMessage: ({ url }) => throwOrReturn('onMessage', url.searchParams) as Any,
    onOpen: ({ url }) => throwOrReturn('onOpen', url.searchParams) as Any,
    onPing: ({ url }) => throwOrReturn('onPing', url.searchParams) as Any,
    // It is called where one of the above failed.
    onError: ({ url }) => {
      const { how, value } = orderIn(url.searchParams);
      if (how?.endsWith('throws')) throw value();
      return (how?.endsWith('rejects') ? Promise.reject(value()) : undefined) as Any;
    },
    onClose: ({ url }) => throwOrReturn('onClose', url.searchParams) as Any,
  });
  const echo = defineEndpoint({ path: '/echo', onMessage: (connection, data) => void connection.send(data) });
  return defineConfig({
    listen,
    log: { level: 'error' },
    routes: [
      { endpoint: endpoint as typeof echo },
      { endpoint: echo, session: 'none' },
      {
        path: '/fetch',
        session: 'none',
        fetch: async ({ url }: Request) => {
          const { how, value } = orderIn(new URL(url).searchParams);
          return (await throwOrReturn('fetch', new URL(url).searchParams)) ?? answer(how!, value);
        },
      } as Any,
      {
        path: '/session',
        session: 'create',
        fetch: async ({ url }: Request, { session }: { session: Session }) => {
          const { how, value } = orderIn(new URL(url).searchParams);
          try {
            await useSession(how!, value, session);
            return Response.json('taken');
          } catch (error) {
            return Response.json(`${(error as Error).name} ${(error as { code?: string }).code ?? ''}`);
          }
        },
      } as Any,
    ],
  });
}
