import { constants as bufferConstants } from 'node:buffer';
import { constants, deflateRawSync, inflateRaw, inflateRawSync, type ZlibOptions } from 'node:zlib';
import { HoldfastError } from '../../base/errors.ts';
import type { OptionNames } from '../../base/options.ts';
import { parseSize, type Size } from '../../base/size.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import { parseExtensions } from './extensions.ts';

/** How permessage-deflate (RFC 7692) is offered and answered. */
export interface DeflateOptions {
  /**
   * Keep the window between messages. Default false.
   *
   * Small messages that resemble each other shrink much further, for up to 64 KiB more memory per connection and about
   * 40 µs more per message sent. A broadcast can no longer be compressed once for all.
   */
  contextTakeover?: boolean;
  /** Largest window the server compresses with, 9 to 15 bits. Default 15. */
  serverMaxWindowBits?: number;
  /** Largest window the client compresses with, 9 to 15 bits; only answered when the client offers it. Default 15. */
  clientMaxWindowBits?: number;
  /** Messages smaller than this are sent as they are. Default `1KiB`. */
  threshold?: Size;
  /** zlib level 0 to 9. Default 6. */
  level?: number;
}

export const DEFLATE_OPTIONS: OptionNames<DeflateOptions> = {
  contextTakeover: 'flag',
  serverMaxWindowBits: 'number',
  clientMaxWindowBits: 'number',
  threshold: 'measure',
  level: 'number',
};

/** What both sides agreed on (RFC 7692 §7.1). */
export interface DeflateParams {
  readonly serverNoContextTakeover: boolean;
  readonly clientNoContextTakeover: boolean;
  /** 9 to 15. */
  readonly serverMaxWindowBits: number;
  /** 8 to 15; 8 only where the client alone compresses with it. */
  readonly clientMaxWindowBits: number;
}

const NAME = 'permessage-deflate';
const MAX_WINDOW_BITS = 15;
/** zlib cannot compress raw deflate with a window of 8 bits: it silently uses 9, which a peer with 8 cannot inflate. */
const MIN_COMPRESS_WINDOW_BITS = 9;

/**
 * Checks the options where they are written.
 *
 * @throws {TypeError} naming the option that is out of range.
 */
export function checkDeflateOptions(options: DeflateOptions): void {
  for (const key of ['serverMaxWindowBits', 'clientMaxWindowBits'] as const)
    checkRange(key, options[key], MIN_COMPRESS_WINDOW_BITS, MAX_WINDOW_BITS);
  checkRange('level', options.level, 0, 9);
  if (options.threshold !== undefined) parseSize(options.threshold);
}

function checkRange(key: string, value: number | undefined, min: number, max: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return;
  throw new TypeError(`compression option ${key} is ${value}; it must be a whole number from ${min} to ${max}`);
}

/**
 * Answers a client's offer: `response` is the value for the `Sec-WebSocket-Extensions` header.
 *
 * The elements of the offer are alternatives and the first acceptable one is taken (RFC 7692 §5). Whatever cannot be
 * accepted, unknown extensions and malformed elements included, is passed over; undefined means that nothing is agreed
 * and messages go uncompressed. It never fails a handshake.
 */
export function negotiateDeflate(
  offerHeader: string | undefined,
  options: DeflateOptions,
): { response: string; params: DeflateParams } | undefined {
  if (offerHeader === undefined) return undefined;
  for (const offer of parseExtensions(offerHeader)) {
    if (offer?.name !== NAME) continue;
    const asked = readParams(offer.params);
    // RFC 7692 §7.1.2.1: the client's limit binds the server, which must decline when it cannot keep it.
    if (asked === undefined || asked.serverBits === true || asked.serverBits === 8) continue;
    const params: DeflateParams = {
      serverNoContextTakeover: asked.serverNoContextTakeover || !options.contextTakeover,
      clientNoContextTakeover: asked.clientNoContextTakeover || !options.contextTakeover,
      serverMaxWindowBits: Math.min(
        asked.serverBits ?? MAX_WINDOW_BITS,
        options.serverMaxWindowBits ?? MAX_WINDOW_BITS,
      ),
      // RFC 7692 §7.1.2.2: a client that does not offer the parameter cannot be limited.
      clientMaxWindowBits:
        asked.clientBits === undefined
          ? MAX_WINDOW_BITS
          : Math.min(
              asked.clientBits === true ? MAX_WINDOW_BITS : asked.clientBits,
              options.clientMaxWindowBits ?? MAX_WINDOW_BITS,
            ),
    };
    const response = writeParams(
      params.serverNoContextTakeover,
      params.clientNoContextTakeover,
      asked.serverBits === undefined ? undefined : params.serverMaxWindowBits,
      params.clientMaxWindowBits === MAX_WINDOW_BITS ? undefined : params.clientMaxWindowBits,
    );
    return { response, params };
  }
  return undefined;
}

/** The client's offer: the value for the `Sec-WebSocket-Extensions` header of its request. */
export function offerDeflate(options: DeflateOptions): string {
  const serverBits = options.serverMaxWindowBits ?? MAX_WINDOW_BITS;
  const clientBits = options.clientMaxWindowBits ?? MAX_WINDOW_BITS;
  return writeParams(
    !options.contextTakeover,
    !options.contextTakeover,
    serverBits === MAX_WINDOW_BITS ? undefined : serverBits,
    clientBits === MAX_WINDOW_BITS ? true : clientBits,
  );
}

/**
 * Reads the server's answer to `offerDeflate(options)`; undefined when it declined.
 *
 * @throws {HoldfastError} ERR_WS_BAD_HANDSHAKE when the answer is not one to this offer: the connection must fail (RFC
 * 7692 §7.1).
 */
export function acceptDeflate(responseHeader: string | undefined, options: DeflateOptions): DeflateParams | undefined {
  if (responseHeader === undefined) return undefined;
  const [answer, ...more] = parseExtensions(responseHeader);
  const given = answer?.name === NAME && more.length === 0 ? readParams(answer.params) : undefined;
  const serverLimit = options.serverMaxWindowBits ?? MAX_WINDOW_BITS;
  const clientLimit = options.clientMaxWindowBits ?? MAX_WINDOW_BITS;
  const serverBits = given?.serverBits ?? MAX_WINDOW_BITS;
  const clientBits = given?.clientBits ?? clientLimit;
  if (
    given === undefined ||
    serverBits === true ||
    serverBits > serverLimit ||
    clientBits === true ||
    clientBits > clientLimit ||
    clientBits < MIN_COMPRESS_WINDOW_BITS ||
    (!options.contextTakeover && !given.serverNoContextTakeover)
  )
    throw new HoldfastError(
      'ERR_WS_BAD_HANDSHAKE',
      `the server answered the extension offer "${offerDeflate(options)}" with "${responseHeader}", which it does not allow`,
    );
  return {
    serverNoContextTakeover: given.serverNoContextTakeover,
    clientNoContextTakeover: given.clientNoContextTakeover || !options.contextTakeover,
    serverMaxWindowBits: serverBits,
    clientMaxWindowBits: clientBits,
  };
}

interface WireParams {
  serverNoContextTakeover: boolean;
  clientNoContextTakeover: boolean;
  /** True: the parameter stands without a value. */
  serverBits: number | true | undefined;
  clientBits: number | true | undefined;
}

/** RFC 7692 §7.1. Undefined when a parameter is unknown or its value is not one it can have. */
function readParams(params: ReadonlyMap<string, string | true>): WireParams | undefined {
  const read: WireParams = {
    serverNoContextTakeover: false,
    clientNoContextTakeover: false,
    serverBits: undefined,
    clientBits: undefined,
  };
  for (const [name, value] of params) {
    if (name === 'server_no_context_takeover' && value === true) read.serverNoContextTakeover = true;
    else if (name === 'client_no_context_takeover' && value === true) read.clientNoContextTakeover = true;
    else if (name === 'server_max_window_bits' && isWindowBits(value)) read.serverBits = toWindowBits(value);
    else if (name === 'client_max_window_bits' && isWindowBits(value)) read.clientBits = toWindowBits(value);
    else return undefined;
  }
  return read;
}

function isWindowBits(value: string | true): boolean {
  return value === true || /^(?:[89]|1[0-5])$/.test(value);
}

function toWindowBits(value: string | true): number | true {
  return value === true ? true : Number(value);
}

function writeParams(
  serverNoContextTakeover: boolean,
  clientNoContextTakeover: boolean,
  serverBits: number | undefined,
  clientBits: number | true | undefined,
): string {
  let header = NAME;
  if (serverNoContextTakeover) header += '; server_no_context_takeover';
  if (clientNoContextTakeover) header += '; client_no_context_takeover';
  if (serverBits !== undefined) header += `; server_max_window_bits=${serverBits}`;
  if (clientBits !== undefined)
    header += clientBits === true ? '; client_max_window_bits' : `; client_max_window_bits=${clientBits}`;
  return header;
}

const EMPTY_MESSAGE = Buffer.from([0x00]);
const DEFAULT_LEVEL = 6;
const MAX_CHUNK_BYTES = 64 * 1024;
/** In the thread pool each chunk is a trip there and back. */
const ASIDE_CHUNK_BYTES = 256 * 1024;
/** What setting zlib up costs, in the bytes that are inflated in the same time. */
const STREAM_COST = 8 * 1024;
/** Deflate cannot shrink further than this. */
const MAX_RATIO = 1032;
/**
 * What reading one byte costs at most, in those that come out in the same time: blocks of 12 bytes may hold nothing but
 * new codes.
 */
const WORST_READ_COST = 40;
/** Bytes inflated in a millisecond by a machine of half the usual speed. */
const SLOW_BYTES_PER_MS = 256 * 1024;

/** How long reading so many bytes of compressed data can take, apart from what comes out. */
export function mostReadMs(payloadBytes: number): number {
  return (payloadBytes * WORST_READ_COST) / SLOW_BYTES_PER_MS;
}

/** What the sender took off (RFC 7692 §7.2.1), without the header bits of that empty block. */
const STRIPPED = Buffer.from([0x00, 0x00, 0xff, 0xff]);

/**
 * Behind it a final empty block, so that zlib can tell a message that is complete from one that was cut off inside a
 * block.
 */
const TAIL = Buffer.concat([STRIPPED, Buffer.from([0x03, 0x00])]);

/**
 * Deflate streams in one message. One is the rule; a final block (BFINAL) starts another. Each costs some 10 µs however
 * little is in it, so without a limit a message of empty final blocks would be a cheap way to keep the process busy.
 */
const MAX_STREAMS = 256;

/**
 * Compresses one message as permessage-deflate wants it (RFC 7692 §7.2.1).
 *
 * `history` is the plaintext that was compressed before on the same connection, for context takeover.
 */
function compressMessage(payload: Uint8Array, windowBits: number, level: number, history: Buffer | undefined): Buffer {
  // RFC 7692 §7.2.3.6.
  if (payload.length === 0) return EMPTY_MESSAGE;
  const compressed = deflateRawSync(payload, {
    windowBits,
    level,
    finishFlush: constants.Z_SYNC_FLUSH,
    // Room for what does not shrink, so that most messages come out in one piece that is no larger than need be.
    chunkSize: Math.min(payload.length + 64, MAX_CHUNK_BYTES),
    ...(history !== undefined && history.length > 0 ? { dictionary: history } : undefined),
  });
  return compressed.subarray(0, -4);
}

/**
 * Both directions of permessage-deflate on one connection.
 *
 * It works in one synchronous call per message and keeps no zlib state between messages. A zlib stream per connection
 * and direction, the usual way, holds some 200 KiB; with context takeover this class holds the plain bytes of the last
 * window instead (at most 32 KiB per direction) and hands them to zlib as the preset dictionary, which gives the same
 * window on both sides. Without takeover it holds nothing. Setting zlib up costs about 10 µs per message, and with
 * takeover the dictionary 40 µs when compressing and 5 µs when inflating; a trip to the thread pool costs as much, and
 * would let messages overtake each other. The price is that a very large message keeps the event loop busy: about 20 ms
 * per MiB compressed, 2 ms per MiB inflated. So `inflate` can be given a limit, and `inflateAside` does what comes to
 * more.
 */
export class PerMessageDeflate {
  /** Messages of fewer bytes are better sent as they are. */
  readonly threshold: number;
  /**
   * Connections with the same key compress any message to the same bytes, so a broadcast needs one `compress` per key.
   * Undefined with context takeover, where the bytes depend on what was sent before.
   */
  readonly broadcastKey: number | undefined;
  readonly #level: number;
  readonly #compressWindowBits: number;
  readonly #inflateWindowBits: number;
  readonly #sent: SlidingWindow | undefined;
  #received: SlidingWindow | undefined;

  constructor(params: DeflateParams, role: 'server' | 'client', options: DeflateOptions) {
    const isServer = role === 'server';
    this.threshold = parseSize(options.threshold ?? '1KiB');
    this.#level = options.level ?? DEFAULT_LEVEL;
    this.#compressWindowBits = isServer ? params.serverMaxWindowBits : params.clientMaxWindowBits;
    this.#inflateWindowBits = isServer ? params.clientMaxWindowBits : params.serverMaxWindowBits;
    const sendsIndependently = isServer ? params.serverNoContextTakeover : params.clientNoContextTakeover;
    const receivesIndependently = isServer ? params.clientNoContextTakeover : params.serverNoContextTakeover;
    this.#sent = sendsIndependently ? undefined : new SlidingWindow(2 ** this.#compressWindowBits);
    this.#received = receivesIndependently ? undefined : new SlidingWindow(2 ** this.#inflateWindowBits);
    this.broadcastKey = sendsIndependently ? this.#compressWindowBits * 16 + this.#level : undefined;
  }

  /** The payload to send with RSV1 set. With context takeover every result must be sent, in the order of the calls. */
  compress(payload: Uint8Array): Buffer {
    const compressed = compressMessage(payload, this.#compressWindowBits, this.#level, this.#sent?.bytes);
    this.#sent?.append(payload);
    return compressed;
  }

  /**
   * The message that a payload received with RSV1 stands for. The limit holds while inflating: no more than it, plus
   * one chunk of at most 64 KiB, is ever in memory.
   *
   * @throws {HoldfastError} ERR_WS_MESSAGE_TOO_BIG (1009) when there are more than `maxBytes`; ERR_WS_INVALID_DEFLATE
   * (1007) when the payload is not a complete deflate stream. The connection must fail then.
   */
  decompress(payload: Uint8Array, maxBytes: number): Buffer {
    const message = new InflatingMessage(payload, maxBytes);
    this.inflate(message);
    return message.bytes;
  }

  /**
   * Inflates a message, in the order in which messages came.
   *
   * @param mostBytes How much may come out in this call.
   * @returns false when more would come out. Nothing of it is kept: the same call without a limit, or `inflateAside`,
   * begins anew.
   * @throws as `decompress`.
   */
  inflate(message: InflatingMessage, mostBytes: number = Number.POSITIVE_INFINITY): boolean {
    while (!message.isComplete) {
      const room = Math.min(message.room, mostBytes - message.inflatedBytes);
      const options = this.#inflateOptions(message, room, MAX_CHUNK_BYTES);
      if (!this.#take(message, room, () => inflateRawSync(message.rest, options) as unknown as Inflated)) {
        message.startOver();
        return false;
      }
    }
    return true;
  }

  /**
   * The whole message, in the thread pool. The connection must inflate nothing else meanwhile. @throws as `decompress`.
   */
  async inflateAside(message: InflatingMessage): Promise<void> {
    while (!message.isComplete) {
      const { room } = message;
      const { promise, resolve } = Promise.withResolvers<() => Inflated>();
      inflateRaw(message.rest, this.#inflateOptions(message, room, ASIDE_CHUNK_BYTES), (error, result) =>
        resolve(() => {
          if (error) throw error;
          return result as unknown as Inflated;
        }),
      );
      this.#take(message, room, await promise);
    }
  }

  #inflateOptions(message: InflatingMessage, room: number, maxChunkBytes: number): ZlibOptions {
    const history = (message.window ?? this.#received)?.bytes;
    return {
      windowBits: this.#inflateWindowBits,
      info: true,
      chunkSize: Math.min(Math.max(message.rest.length * 4, 1024), maxChunkBytes),
      // zlib wants at least 1, also where only empty blocks may follow.
      maxOutputLength: Math.min(Math.max(room, 1), bufferConstants.MAX_LENGTH),
      ...(history !== undefined && history.length > 0 ? { dictionary: history } : undefined),
    };
  }

  /** One stream of a message. False: it does not fit into `room`, which is less than the message may have. */
  #take(message: InflatingMessage, room: number, inflate: () => Inflated): boolean {
    // What it could come to, until it is known.
    const most = Math.min(message.rest.length * MAX_RATIO, room);
    message.cost += STREAM_COST + most;
    const result = resultOf(inflate);
    if (result === undefined || result.buffer.length > room) {
      if (room < message.room) return false;
      throw tooBig(message.maxBytes);
    }
    message.cost += result.buffer.length - most;
    message.add(result.buffer, result.engine.bytesWritten);
    if (this.#received) this.#remember(this.#received, message, result.buffer);
    return true;
  }

  /** The window moves on with whole messages: one that starts over must find it as it was. */
  #remember(received: SlidingWindow, message: InflatingMessage, plain: Buffer): void {
    if (message.isComplete && message.window === undefined) return received.append(plain);
    message.window ??= received.copy();
    message.window.append(plain);
    if (message.isComplete) this.#received = message.window;
  }
}

/** What zlib answers with `info`. */
interface Inflated {
  readonly buffer: Buffer;
  readonly engine: { readonly bytesWritten: number };
}

/** Undefined: more came out than it was allowed. */
function resultOf(inflate: () => Inflated): Inflated | undefined {
  try {
    return inflate();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') return undefined;
    throw invalidDeflate((error as Error).message, error);
  }
}

/** A compressed message and what has been inflated of it. It keeps a copy of the payload. */
export class InflatingMessage {
  readonly maxBytes: number;
  readonly payloadBytes: number;
  inflatedBytes = 0;
  /**
   * What has been spent on it, in bytes: those that came out, and 8 KiB for each stream that was set up. For an attempt
   * that failed, the bytes it could have come to.
   */
  cost = 0;
  /** With context takeover, between two streams of the message: the window behind the first of them. */
  window: SlidingWindow | undefined;
  readonly #input: Buffer;
  readonly #parts: Buffer[] = [];
  #position = 0;

  /** @param maxBytes What it may inflate to. */
  constructor(payload: Uint8Array, maxBytes: number) {
    this.maxBytes = maxBytes;
    this.payloadBytes = payload.length;
    this.#input = Buffer.concat([payload, TAIL]);
  }

  /** How long inflating it can have taken. What is measured beyond that was the time of other programs. */
  get mostMs(): number {
    return this.cost / SLOW_BYTES_PER_MS + mostReadMs(this.payloadBytes);
  }

  /** Bytes that may still come out. */
  get room(): number {
    return this.maxBytes - this.inflatedBytes;
  }

  /** What has yet to be inflated. */
  get rest(): Buffer {
    return this.#input.subarray(this.#position);
  }

  /** RFC 7692 §7.2.3.4: a block may be the final one of its stream, and other blocks may follow it in the message. */
  get isComplete(): boolean {
    // Deviation: RFC 7692 §7.2.3.6 wants an empty message to be one 00 byte, but a zlib stream that is flushed twice
    // with nothing in between writes nothing the second time, so simple peers with context takeover send no bytes at
    // all.
    if (this.payloadBytes === 0) return true;
    return this.#parts.length > 0 && this.#position >= this.payloadBytes;
  }

  get bytes(): Buffer {
    return this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts, this.inflatedBytes);
  }

  /** Forgets what has been inflated: what waits takes the memory of what was sent and no more. */
  startOver(): void {
    this.#parts.length = 0;
    this.#position = 0;
    this.inflatedBytes = 0;
    this.window = undefined;
  }

  /**
   * @throws {HoldfastError} ERR_WS_INVALID_DEFLATE when the message has too many streams, or its last block is cut off.
   */
  add(bytes: Buffer, consumed: number): void {
    this.#parts.push(bytes);
    this.inflatedBytes += bytes.length;
    this.#position += consumed;
    // The last stream ends with ours, with the sender's own empty block if that is a final one, or, though the sender
    // should have put an empty block behind it, with the payload. Anywhere else, some of the tail was read as the
    // payload's data.
    const inTail = this.#position - this.payloadBytes;
    if (inTail < 0) {
      if (this.#parts.length === MAX_STREAMS)
        throw invalidDeflate(`more than ${MAX_STREAMS} final blocks in one message`);
    } else if (inTail !== TAIL.length && inTail !== STRIPPED.length && inTail !== 0) {
      throw invalidDeflate('the last block is cut off');
    }
  }
}

/** The last `size` bytes of what went through. Grows with what there is. */
class SlidingWindow {
  bytes: Buffer = Buffer.alloc(0);
  readonly #size: number;

  constructor(size: number) {
    this.#size = size;
  }

  copy(): SlidingWindow {
    const copy = new SlidingWindow(this.#size);
    copy.append(this.bytes);
    return copy;
  }

  append(plain: Uint8Array): void {
    const added = Math.min(plain.length, this.#size);
    const kept = Math.min(this.bytes.length, this.#size - added);
    const from = this.bytes.length - kept;
    if (this.bytes.length === kept + added) {
      this.bytes.copyWithin(0, from);
    } else {
      const grown = Buffer.allocUnsafeSlow(kept + added);
      this.bytes.copy(grown, 0, from);
      this.bytes = grown;
    }
    this.bytes.set(plain.subarray(plain.length - added), kept);
  }
}

function tooBig(maxBytes: number): HoldfastError {
  return new HoldfastError(
    'ERR_WS_MESSAGE_TOO_BIG',
    `a compressed message inflates to more than ${maxBytes} bytes; raise maxInflatedSize or send less`,
    { closeCode: CloseCode.messageTooBig },
  );
}

function invalidDeflate(detail: string, cause?: unknown): HoldfastError {
  return new HoldfastError(
    'ERR_WS_INVALID_DEFLATE',
    `a compressed message does not inflate (${detail}); the peer must follow RFC 7692`,
    { closeCode: CloseCode.invalidData, cause },
  );
}
