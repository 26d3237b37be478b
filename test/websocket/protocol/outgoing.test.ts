import { defineEndpoint } from 'holdfast';
import { expect, test } from 'vitest';
import { testClient } from '../../../src/testing/test-client.ts';
import { encodeFrame, FrameWriter, firstByte } from '../../../src/websocket/protocol/frame-writer.ts';
import { Opcode } from '../../../src/websocket/protocol/opcodes.ts';
import { checkData } from '../../../src/websocket/protocol/outgoing.ts';
import { hostileValues } from '../../guard/hostile-values.ts';
import { serve } from '../serve.ts';

const refused = Object.entries(hostileValues).filter(([, { sent }]) => sent === undefined);

test.each([
  [new ArrayBuffer(4), 'send: data is a string or a Uint8Array, not an ArrayBuffer; pass new Uint8Array(buffer)'],
  [
    new Float64Array(1),
    'send: data is a string or a Uint8Array, not a Float64Array; pass new Uint8Array(view.buffer, view.byteOffset, view.byteLength)',
  ],
  [new Blob(), 'send: data is a string or a Uint8Array, not a Blob; pass await blob.bytes()'],
  [42, 'send: data is a string or a Uint8Array, not a number; pass String(value)'],
  [new String('text'), 'send: data is a string or a Uint8Array, not a String object; pass String(value)'],
  [
    { text: 'secret' },
    'send: data is a string or a Uint8Array, not an object; pass JSON.stringify(value), for example',
  ],
  [undefined, 'send: data is a string or a Uint8Array, not undefined; pass a text or bytes'],
  [Promise.resolve(), 'send: data is a string or a Uint8Array, not a Promise; await it first'],
])('the error for %o names the type and what to pass in its place', (value, message) => {
  expect(() => checkData('send', value as never)).toThrow(new TypeError(message));
});

test.each(refused)('a frame writer that gets %s stays as it was', (_, { make }) => {
  const writer = new FrameWriter(false);
  writer.text(firstByte(Opcode.text), 'before');
  const value = make() as never;
  expect(() => writer.text(firstByte(Opcode.text), value)).toThrow(TypeError);
  expect(() => writer.binary(firstByte(Opcode.binary), value)).toThrow(TypeError);
  expect(() => writer.encoded(encodeFrame(firstByte(Opcode.binary), value))).toThrow(TypeError);
  writer.text(firstByte(Opcode.text), 'after');
  expect(writer.take()).toEqual(Buffer.from('\x81\x06before\x81\x05after', 'latin1'));
});

test('a client refuses what is neither text nor bytes, and goes on', async () => {
  await using served = await serve(
    defineEndpoint({ path: '/', onMessage: (connection, data) => void connection.send(data) }),
  );
  await using client = await testClient(served.url);
  for (const [, { make }] of refused) {
    expect(() => client.send(make() as never)).toThrow(TypeError);
    expect(() => client.close(1000, (make() ?? null) as never)).toThrow(TypeError);
    const payload = make() ?? null;
    expect(() => client.ping(payload as never)).toThrow(TypeError);
  }
  expect(() => client.close('1000' as never)).toThrow(TypeError);
  expect(() => client.close(1005)).toThrow(RangeError);
  client.send('still here');
  expect(await client.receive()).toBe('still here');
});
