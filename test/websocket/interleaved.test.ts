import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Connection, defineEndpoint } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { gate } from './journal.ts';
import { CONTINUATION, closeFrame, frame, PING, PONG, RawClient, TEXT } from './raw-client.ts';
import { serve } from './serve.ts';

const MESSAGES = 20;

/** What client `number` sends: whole messages, and messages in fragments with a ping inside. */
function conversation(number: number): Buffer {
  const frames: Buffer[] = [];
  for (let i = 0; i < MESSAGES; i++) {
    const text = `${number}/${i} ${'€'.repeat(i * 7)}`;
    if (i % 3 > 0) frames.push(frame(TEXT, text));
    else frames.push(frame(TEXT, text, { fin: false }), frame(PING, `${number}`), frame(CONTINUATION, ' end'));
  }
  return Buffer.concat(frames);
}

describe('connections whose bytes arrive in turns, cut anywhere', () => {
  test.each([1, 2, 5, 31])('keep their messages apart, in pieces of %i bytes and more', async piece => {
    await using served = await serve(
      defineEndpoint({ path: '/', onMessage: (connection, data) => void connection.send(data) }),
    );
    const clients = await Promise.all(Array.from({ length: 6 }, () => RawClient.connect(served.url)));
    const sent = clients.map((_, number) => conversation(number));
    const at = clients.map(() => 0);
    for (let turn = 0; at.some((position, number) => position < sent[number]!.length); turn++) {
      for (const [number, client] of clients.entries()) {
        // Each in a step of its own, and short and long pieces mixed, so that no two stand at the same place.
        const end = at[number]! + piece + ((turn + number) % 4) * 40;
        client.send(sent[number]!.subarray(at[number], end));
        at[number] = end;
      }
      await nextTurn();
    }
    for (const [number, client] of clients.entries()) {
      for (let i = 0; i < MESSAGES; i++) {
        const isFragmented = i % 3 === 0;
        if (isFragmented)
          expect(await client.next()).toMatchObject({ opcode: PONG, payload: Buffer.from(`${number}`) });
        expect(await client.text()).toBe(`${number}/${i} ${'€'.repeat(i * 7)}${isFragmented ? ' end' : ''}`);
      }
      client[Symbol.dispose]();
    }
  });

  test('are not touched by one that breaks the protocol, closes or goes away inside a message', async () => {
    await using served = await serve(
      defineEndpoint({ path: '/', onMessage: (connection, data) => void connection.send(data) }),
    );
    using steady = await RawClient.connect(served.url);
    const whole = frame(TEXT, 'mine');
    const enders: ((client: RawClient) => void)[] = [
      client => client.send(Buffer.of(0xf1, 0x80)),
      client => client.send(closeFrame(1000)),
      client => client.socket.destroy(),
      client => client.socket.end(),
    ];
    for (const end of enders) {
      using other = await RawClient.connect(served.url);
      other.send(frame(TEXT, 'first half', { fin: false }));
      await nextTurn();
      steady.send(whole.subarray(0, 7));
      await nextTurn();
      end(other);
      await nextTurn();
      steady.send(whole.subarray(7));
      expect(await steady.text()).toBe('mine');
    }
  });

  test('are read while one is not, because its callback is slow', async () => {
    const slow = gate();
    const onMessage = (connection: Connection, data: string | Uint8Array) =>
      data === 'wait' ? slow.promise : void connection.send(data);
    await using served = await serve(defineEndpoint({ path: '/', onMessage }));
    using waiting = await RawClient.connect(served.url);
    using other = await RawClient.connect(served.url);
    // As many as make it stop reading, and not a byte more.
    waiting.send(frame(TEXT, 'wait'), ...Array.from({ length: 64 }, (_, i) => frame(TEXT, `${i}`)));
    await nextTurn();
    other.send(frame(TEXT, 'meanwhile'));
    expect(await other.text()).toBe('meanwhile');
    slow.resolve();
    for (let i = 0; i < 64; i++) expect(await waiting.text()).toBe(`${i}`);
  });
});
