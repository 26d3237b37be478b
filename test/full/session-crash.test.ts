import { Agent } from 'undici';
import { describe, expect, test } from 'vitest';
import { startRedis } from '../services/redis-server.ts';
import { type RaceProcess, startRaceProcess } from '../session/race-program.ts';
import { SHARED_PLACES, skipNote } from '../session/race-stores.ts';

const REQUESTS = 10_000;
const CLIENTS = 64;
const KILLS = 4;

/** What a client has sent, and what was answered with 200. */
interface Client {
  cookie: string;
  sent: number;
  acknowledged: number;
}

async function openDurable(place: (typeof SHARED_PLACES)[number]) {
  if (place.name !== 'redis') return place.open();
  const server = await startRedis({ appendonly: 'yes', appendfsync: 'always' });
  return { address: server.url, close: () => server.stop() };
}

describe.each(SHARED_PLACES.map(place => ({ place, title: `${place.name}${skipNote(place)}` })))(
  'on $title',
  ({ place }) => {
    test.skipIf(place.missing)(
      `of ${REQUESTS} requests that write two attributes each, everything answered with 200 is there after kill -9 of the server`,
      async () => {
        const { address, close } = await openDurable(place);
        const clients: Client[] = Array.from({ length: CLIENTS }, () => ({ cookie: '', sent: 0, acknowledged: 0 }));
        const total = () => clients.reduce((sum, { acknowledged }) => sum + acknowledged, 0);
        let server = await startRaceProcess(address);

        /** Sends requests one after the other until one is not answered. */
        async function work(client: Client, { url }: RaceProcess, dispatcher: Agent): Promise<void> {
          try {
            for (;;) {
              client.sent++;
              const init = { headers: { cookie: client.cookie }, dispatcher } as RequestInit;
              const answer = await fetch(`${url}/both?value=${client.sent}`, init);
              await answer.text();
              if (answer.status !== 200) throw new Error(`answered with ${answer.status}`);
              client.cookie = answer.headers.getSetCookie()[0]?.split(';', 1)[0] ?? client.cookie;
              client.acknowledged = client.sent;
            }
          } catch {
            // The server is gone.
          }
        }

        async function check({ url }: RaceProcess, client: Client): Promise<void> {
          if (client.cookie === '') return; // its first request was never answered
          const answer = await fetch(url, { headers: { cookie: client.cookie } });
          const { data } = (await answer.json()) as { data: { first: string; second: string } };
          const found = Number(data.first);
          expect(data.second.trimEnd(), 'both attributes are of one commit').toBe(data.first);
          expect(found).toBeGreaterThanOrEqual(client.acknowledged);
          expect(found, 'at most the one that was on its way').toBeLessThanOrEqual(client.sent);
        }

        for (let kill = 1; kill <= KILLS; kill++) {
          const dispatcher = new Agent({ connections: CLIENTS });
          const working = clients.map(client => work(client, server, dispatcher));
          await expect.poll(total, { timeout: 120_000, interval: 2 }).toBeGreaterThan((REQUESTS / KILLS) * kill);
          await server.kill();
          await Promise.all(working);
          await dispatcher.destroy();
          server = await startRaceProcess(address);
          for (const client of clients) await check(server, client);
        }
        console.log(`${place.name}: ${total()} requests were answered, ${KILLS} times kill -9, nothing lost`);
        await server.close();
        await close();
      },
    );

    test.skipIf(place.missing).each(['very-high', 'high'] as const)(
      'under %s a kill -9 loses what was set since the last writing and no session, and a stop loses nothing',
      async profile => {
        const { address, close } = await openDurable(place);
        let server = await startRaceProcess(address, { profile });
        const visit = async (path: string, cookie: string) => {
          const answer = await fetch(server.url + path, { headers: { cookie } });
          const text = await answer.text();
          return { text, cookie: answer.headers.getSetCookie()[0]?.split(';', 1)[0] ?? cookie };
        };
        const { text: id, cookie } = await visit('/in', '');
        const [, ended] = [await visit('/set?value=lost', cookie), await visit('/in', '')];
        expect(JSON.parse((await visit('/', cookie)).text)).toEqual({ id, data: { lost: 'here' } });
        await visit('/logout', ended.cookie);
        await server.kill();
        server = await startRaceProcess(address, { profile });
        expect(JSON.parse((await visit('/', cookie)).text)).toEqual({ id, data: {} });
        expect(JSON.parse((await visit('/', ended.cookie)).text)).toEqual({});
        await visit('/set?value=kept', cookie);
        await server.close();
        server = await startRaceProcess(address, { profile });
        expect(JSON.parse((await visit('/', cookie)).text)).toEqual({ id, data: { kept: 'here' } });
        await server.close();
        await close();
      },
    );
  },
);
