import { byteLengthOf } from '../base/bytes.ts';
import { encodeFrame, firstByte } from './protocol/frame-writer.ts';
import { Opcode } from './protocol/opcodes.ts';
import type { PerMessageDeflate } from './protocol/permessage-deflate.ts';

/** A message that many connections get: encoded once, and compressed once per set of parameters that was agreed. */
export class SharedMessage {
  readonly #opcode: number;
  /** The bytes are copied: what is done while the connections get it cannot change it for some of them. */
  readonly #plain: Buffer;
  readonly #payload: Buffer;
  #compressed: Map<number, Buffer> | undefined;

  constructor(data: string | Uint8Array) {
    this.#opcode = typeof data === 'string' ? Opcode.text : Opcode.binary;
    this.#plain = encodeFrame(firstByte(this.#opcode), data);
    const length = typeof data === 'string' ? Buffer.byteLength(data) : byteLengthOf(data);
    this.#payload = this.#plain.subarray(this.#plain.length - length);
  }

  /** The frame for a connection that agreed on this compression, or on none. */
  frameFor(deflate: PerMessageDeflate | undefined): Buffer {
    if (deflate === undefined || this.#payload.length < deflate.threshold) return this.#plain;
    // With context takeover the bytes depend on what this connection was sent before: nothing to share.
    if (deflate.broadcastKey === undefined)
      return encodeFrame(firstByte(this.#opcode, true, true), deflate.compress(this.#payload));
    this.#compressed ??= new Map();
    let frame = this.#compressed.get(deflate.broadcastKey);
    if (frame === undefined) {
      frame = encodeFrame(firstByte(this.#opcode, true, true), deflate.compress(this.#payload));
      this.#compressed.set(deflate.broadcastKey, frame);
    }
    return frame;
  }
}
