import { clientFrame, serverFrame, TEXT } from './frames.ts';

/**
 * What a client sends again and again, and what must come back. Everything is made beforehand, so that load costs
 * little.
 */
export interface TapeOptions {
  /** Payload bytes of each message. */
  size: number;
  opcode: number;
  /** What stands around the text of a message, for protocols on top of WebSocket. It counts towards `size`. */
  around?: readonly [string, string];
  /** Largest number of messages asked for at once. */
  burst: number;
  /** Largest number of bytes compared at once. */
  chunk: number;
}

/**
 * Messages on a tape. All differ, in payload and in mask, so that an answer that got lost, doubled or swapped shows.
 */
const MESSAGES = 32;

export class Tape {
  /** Bytes of one message as the server sends it. */
  readonly answerBytes: number;
  readonly #sends: readonly (readonly Buffer[])[];
  readonly #answers: Buffer;
  readonly #answersBytes: number;

  constructor(options: TapeOptions) {
    const { size, opcode, burst, chunk, around = ['', ''] } = options;
    const textSize = size - around[0].length - around[1].length;
    const payloads = Array.from({ length: MESSAGES }, (_, index) =>
      Buffer.from(`${around[0]}${textOf(index, textSize)}${around[1]}`),
    );
    if (opcode !== TEXT) for (const [index, payload] of payloads.entries()) payload.fill(0x80 | index, size >> 1);

    const requests = payloads.map((payload, index) => clientFrame(opcode, payload, maskOf(index)));
    const requestBytes = requests[0]!.length;
    const loop = Buffer.concat([...requests, ...requests]);
    if (burst > MESSAGES) throw new TypeError(`a burst has at most ${MESSAGES} messages, not ${burst}`);
    this.#sends = requests.map((_, index) =>
      Array.from({ length: burst + 1 }, (_, count) =>
        loop.subarray(index * requestBytes, (index + count) * requestBytes),
      ),
    );

    const answers = Buffer.concat(payloads.map(payload => serverFrame(opcode, payload)));
    this.answerBytes = answers.length / MESSAGES;
    this.#answersBytes = answers.length;
    const repeats = Math.ceil(chunk / answers.length) + 1;
    this.#answers = Buffer.concat(Array<Buffer>(repeats).fill(answers));
  }

  /** The frames of `count` messages from the `index`th on. */
  send(index: number, count: number): Buffer {
    return this.#sends[index % MESSAGES]![count]!;
  }

  /** Whether `chunk[0..size]` is what the server must send at this offset of its stream, to the byte. */
  matches(offset: number, chunk: Buffer, size: number): boolean {
    const start = offset % this.#answersBytes;
    return this.#answers.compare(chunk, 0, size, start, start + size) === 0;
  }
}

function textOf(index: number, size: number): string {
  return `${index}:abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ `.repeat(Math.ceil(size / 50)).slice(0, size);
}

function maskOf(index: number): Buffer {
  return Buffer.from([0x37 + index, 0xfa - index, 0x21 ^ index, 0x3d]);
}
