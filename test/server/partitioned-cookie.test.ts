import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FaultyStore } from '../session/fixture.ts';
import { ask, WiredServer, wires } from './wires.ts';

describe.each(wires)('over %s', wire => {
  let server: WiredServer;
  beforeEach(async () => {
    server = await WiredServer.start({
      session: { store: new FaultyStore(), cookie: { name: 'sid', sameSite: 'none', partitioned: true } },
      routes: [
        { path: '/open', session: 'create', fetch: () => new Response() },
        { path: '/page', session: 'existing', fetch: () => new Response() },
        {
          path: '/in',
          fetch: async request => {
            const session = await server.server.sessions.signIn(request, { name: 'ann', roles: [] });
            return new Response(session.id);
          },
        },
        {
          path: '/out',
          fetch: async (_request, { session }) => {
            await session?.invalidate();
            return new Response();
          },
        },
      ],
      log: { access: 'off' },
    });
  });
  afterEach(() => server.close());

  const setBy = async (path: string, cookie?: string) => {
    const headers = { accept: 'text/html', ...(cookie && { cookie }) };
    const answer = await ask(server, wire, { path, headers });
    return (answer.headers['set-cookie'] ?? '').split(', ');
  };
  const PLACE = 'Path=/; Secure; HttpOnly; SameSite=None';

  test('every cookie of partitioned sessions says so: session, nonce, and what deletes them', async () => {
    const [line] = await setBy('/open');
    expect(line).toMatch(new RegExp(`^sid=v1[^;]+; ${PLACE}; Partitioned$`));
    expect(await setBy('/page')).toEqual([
      expect.stringMatching(new RegExp(`^sid-new=n1[^;]+; Max-Age=86400; ${PLACE}; Partitioned$`)),
    ]);
    expect(await setBy('/out', line!.split(';')[0])).toEqual([`sid=; Max-Age=0; ${PLACE}; Partitioned`]);
  });

  test('a login takes the cookie back that a release before has set without it, once both have come', async () => {
    const [line] = await setBy('/open');
    const former = line!.split(';')[0]!;
    const [first, ...none] = await setBy('/in', former);
    expect(none).toEqual([]);
    const both = `${former}; ${first!.split(';')[0]}`;
    expect(await setBy('/in', both)).toEqual([
      `sid=; Max-Age=0; ${PLACE}`,
      expect.stringMatching(new RegExp(`^sid=v1[^;]+; ${PLACE}; Partitioned$`)),
    ]);
  });
});
