import { expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { open, start } from '../examples/example-client.ts';
import type { ExampleProcess } from '../examples/example-process.ts';

const connections = (example: ExampleProcess, count: number): Promise<WebSocket[]> =>
  Promise.all(Array.from({ length: count }, () => open(example, '/demo')));

/** The messages that arrive from now on, when there are so many of them. */
function collect(socket: WebSocket, count: number): Promise<string[]> {
  const messages: string[] = [];
  return new Promise((resolve: (messages: string[]) => void) => {
    socket.on('message', data => {
      if (messages.push(String(data)) === count) resolve(messages);
    });
  });
}

test('broadcast: messages of many senders arrive whole, everywhere, and in one order', async () => {
  const example = await start('broadcast');
  const sockets = await connections(example, 100);
  const senders = sockets.slice(0, 5);
  const sent = senders.flatMap((_, sender) =>
    Array.from({ length: 40 }, (_, index) => `${sender} ${index} ${String(sender).repeat(1_000)}`),
  );
  const received = Promise.all(sockets.map(socket => collect(socket, sent.length)));
  for (const message of sent) senders[Number(message[0])]!.send(message);

  const [first, ...others] = await received;
  expect([...first!].sort()).toEqual([...sent].sort());
  for (const other of others) expect(other).toEqual(first);
});

test('broadcast: who does not read delays nobody, and gets the latest message afterwards', async () => {
  const example = await start('broadcast');
  const sockets = await connections(example, 5);
  const [stalled, ...readers] = sockets as [WebSocket, ...WebSocket[]];
  stalled.pause();
  // More than the kernel takes for a peer that reads nothing.
  const COUNT = 400;
  const filling = 'x'.repeat(60_000);
  for (let round = 1; round <= COUNT; round++) {
    const received = Promise.all(readers.map(reader => collect(reader, 1)));
    readers[0]!.send(`${round} ${filling}`);
    await received;
    for (const reader of readers) reader.removeAllListeners('message');
  }

  const rounds: number[] = [];
  const gotLatest = new Promise<void>(resolve => {
    stalled.on('message', data => {
      rounds.push(Number.parseInt(String(data), 10));
      if (rounds.at(-1) === COUNT) resolve();
    });
  });
  stalled.resume();
  await gotLatest;
  expect(rounds.length).toBeLessThan(COUNT);
  expect(rounds).toEqual([...new Set(rounds)].sort((a, b) => a - b));
});
