import { defineEndpoint } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { testClient } from '../../src/testing/test-client.ts';
import { Journal } from './journal.ts';
import { frame, RawClient, TEXT } from './raw-client.ts';
import { serve } from './serve.ts';

describe('topics', () => {
  test('are heard by those who subscribe, until they unsubscribe', async () => {
    const { server, ...rest } = await serve(
      defineEndpoint({
        path: '/',
        onMessage(connection, data) {
          const [act, topic] = (data as string).split(' ');
          if (act === 'subscribe') connection.subscribe(topic!);
          else connection.unsubscribe(topic!);
          connection.send('done');
        },
      }),
    );
    await using served = { server, ...rest };
    await using a = await testClient(served.url);
    await using b = await testClient(served.url);
    const tell = async (client: typeof a, what: string) => {
      client.send(what);
      expect(await client.receive()).toBe('done');
    };
    await tell(a, 'subscribe kitchen');
    await tell(a, 'subscribe hall');
    await tell(b, 'subscribe kitchen');
    // Twice is once.
    await tell(b, 'subscribe kitchen');
    expect(server.publish('kitchen', 'soup')).toEqual({ sent: 2, skipped: 0, failed: 0 });
    expect(server.publish('hall', 'guests')).toEqual({ sent: 1, skipped: 0, failed: 0 });
    expect(server.publish('cellar', 'nobody')).toEqual({ sent: 0, skipped: 0, failed: 0 });
    expect([await a.receive(), await a.receive()]).toEqual(['soup', 'guests']);
    expect(await b.receive()).toBe('soup');
    await tell(a, 'unsubscribe kitchen');
    await tell(a, 'unsubscribe never subscribed');
    expect(server.publish('kitchen', 'cake')).toEqual({ sent: 1, skipped: 0, failed: 0 });
    expect(await b.receive()).toBe('cake');
  });

  test('join endpoints of one server, and end with the connection', async () => {
    const journal = new Journal();
    const speaking = (path: string) =>
      defineEndpoint({
        path,
        onOpen(connection) {
          connection.subscribe('all');
          journal.add('open');
        },
        onClose: () => journal.add('close'),
      });
    await using served = await serve([speaking('/a'), speaking('/b')]);
    using a = await RawClient.connect(`${served.url}/a`);
    using b = await RawClient.connect(`${served.url}/b`);
    await journal.until('open', 2);
    expect(served.server.publish('all', 'hello').sent).toBe(2);
    expect([await a.text(), await b.text()]).toEqual(['hello', 'hello']);
    a.reset();
    await journal.until('close');
    expect(served.server.publish('all', 'again')).toEqual({ sent: 1, skipped: 0, failed: 0 });
    expect(await b.text()).toBe('again');
  });

  test('end as soon as the connection begins to close, and cannot be joined then', async () => {
    const journal = new Journal();
    const endpoint = defineEndpoint({
      path: '/',
      onOpen: connection => connection.subscribe('t'),
      onMessage(connection) {
        connection.close();
        connection.subscribe('t');
        journal.add('closing');
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    await expect.poll(() => served.server.publish('t', 'x').sent).toBe(1);
    client.send(frame(TEXT));
    await journal.until('closing');
    expect(served.server.publish('t', 'x')).toEqual({ sent: 0, skipped: 0, failed: 0 });
  });
});
