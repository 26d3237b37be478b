import { once } from 'node:events';
import { defineEndpoint } from 'holdfast';
import { expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { closing } from '../services/closing.ts';
import { AdminServer } from './admin-server.ts';

const open = closing();

test.each([undefined, 'ann'])('a socket with a session of %s opens, and is known with session and user', async user => {
  const server = await AdminServer.start(
    {
      log: { access: 'json', level: 'silent' },
      routes: [
        {
          path: '/login',
          session: 'create',
          fetch: async request => {
            if (user !== undefined) await server.server.sessions.signIn(request, { name: user, roles: [] });
            return new Response('in');
          },
        },
        { endpoint: defineEndpoint({ path: '/echo', onMessage: (connection, data) => void connection.send(data) }) },
      ],
    },
    { accessLog: { write() {} } },
  );
  open.push(server);
  const [url = ''] = server.server.urls;
  const cookie = (await fetch(`${url}/login`)).headers.get('Set-Cookie')!.split(';')[0]!;
  const socket = new WebSocket(`${url.replace('http', 'ws')}/echo`, { headers: { Origin: url, Cookie: cookie } });
  await once(socket, 'open');
  socket.send('hello');
  expect(String((await once(socket, 'message'))[0])).toBe('hello');
  const { json } = await server.askSocket('/v1/connections');
  expect(json.connections).toEqual([
    expect.objectContaining({ session: expect.stringMatching(/^[\w-]{8}$/), ...(user !== undefined && { user }) }),
  ]);
  socket.terminate();
});
