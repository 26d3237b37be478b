import { describe, expect, test } from 'vitest';
import { type Config, defineEndpoint } from '../../src/index.ts';
import type { AnomaliesConfig } from '../../src/policy/anomaly-options.ts';
import { connectWebSocket } from '../../src/websocket/protocol/client.ts';
import { closing } from '../services/closing.ts';
import { ask, Lines, type Wire, WiredServer, wires } from './wires.ts';

const open = closing();

interface Site {
  readonly server: WiredServer;
  readonly log: Lines;
  /** The user whom the server sees, or `nobody`. */
  who(cookie: string, address: string, wire?: Wire): Promise<string>;
  signIn(address: string, cookie?: string): Promise<string>;
}

async function site(anomalies: AnomaliesConfig, more: Config = {}): Promise<Site> {
  const log = new Lines();
  const server: WiredServer = await WiredServer.start(
    {
      session: { store: 'memory:' },
      trustedProxies: ['127.0.0.1'],
      anomalies,
      routes: [
        {
          path: '/in',
          session: 'existing',
          fetch: async request => {
            await server.server.sessions.signIn(request, { name: 'alice', roles: [] });
            return new Response('in');
          },
        },
        { path: '/who', session: 'existing', fetch: (_, { user }) => new Response(user?.name ?? 'nobody') },
        { endpoint: defineEndpoint({ path: '/socket' }) },
      ],
      ...more,
    },
    log,
  );
  open.push(server);
  const headers = (address: string, cookie = '') => ({
    'X-Forwarded-For': address,
    'User-Agent': 'browser',
    ...(cookie && { Cookie: cookie }),
  });
  return {
    server,
    log,
    who: async (cookie, address, wire = 'http/1') =>
      (await ask(server, wire, { path: '/who', headers: headers(address, cookie) })).body,
    signIn: async (address, cookie) => {
      const answer = await ask(server, 'http/1', { path: '/in', headers: headers(address, cookie) });
      return answer.headers['set-cookie']!.split(';', 1)[0]!;
    },
  };
}

const [HOME, AWAY] = ['192.0.2.1', '198.51.100.1'];

describe('a session that is used from another network', () => {
  test.each(wires)('goes on under "log", which is the default, with a line, over %s', async wire => {
    const { who, signIn, log } = await site({});
    const cookie = await signIn(HOME);
    await who(cookie, HOME, wire);
    expect(await who(cookie, AWAY, wire)).toBe('alice');
    const found = log.all.filter(({ fields }) => fields.address === AWAY).map(({ fields }) => fields.event);
    expect(found).toEqual(['session-two-places', 'session-new-network']);
    expect(JSON.stringify(log.all)).not.toContain(cookie.split('=')[1]);
  });

  test('is not shown there under "challenge" until its user signs in, and goes on at home', async () => {
    const { who, signIn } = await site({ network: 'challenge' });
    const cookie = await signIn(HOME);
    await who(cookie, HOME);
    expect(await who(cookie, AWAY)).toBe('nobody');
    expect(await who(cookie, HOME)).toBe('alice');
    const own = await signIn(AWAY, cookie);
    expect(own).not.toBe(cookie);
    expect(await who(own, AWAY)).toBe('alice');
    expect(await who(cookie, HOME)).toBe('alice');
  });

  test('ends under "end" for everybody, and its sockets close with 1008', async () => {
    const { who, signIn, server } = await site({ places: 'end' });
    const cookie = await signIn(HOME);
    const url = server.url('http/1');
    const socket = await connectWebSocket(`${url}/socket`, {
      headers: { cookie, 'x-forwarded-for': HOME, 'user-agent': 'browser' },
      origin: url,
    });
    expect(await who(cookie, AWAY)).toBe('nobody');
    expect(await socket.closed).toMatchObject({ code: 1008 });
    expect(await who(cookie, HOME)).toBe('nobody');
  });

  test('ends under "ban", and the client that came with it is banned', async () => {
    const { who, signIn, server } = await site({ network: 'ban' }, { bans: { action: 'refuse' } });
    const cookie = await signIn(HOME);
    await who(cookie, HOME);
    expect(await who(cookie, AWAY)).toBe('This address is banned for now.\n');
    expect(await who('', HOME)).toBe('nobody');
    expect(await who(cookie, HOME)).toBe('nobody');
    expect(server.server.bans.list()).toMatchObject([{ client: AWAY, jail: 'anomaly' }]);
  });
});
