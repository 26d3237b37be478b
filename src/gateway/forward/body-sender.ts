import type { IncomingMessage } from 'node:http';
import { bodyKind } from '../../http/request-body.ts';
import type { BackendConnection } from '../connection/connection.ts';

export interface BodySenderEvents {
  /** All of it was given to the connection. */
  onSent(): void;
  /** It has more bytes than it may have. Nothing of what is too much was sent. */
  onTooLarge(): void;
}

/** The body of a client's request on its way to a backend: as it comes, with backpressure. */
export class BodySender {
  readonly isChunked: boolean;
  readonly #request: IncomingMessage;
  readonly #maxBytes: number;
  readonly #trailers: (rawTrailers: readonly string[]) => readonly string[];
  #bytes = 0;
  #connection: BackendConnection | undefined;
  #events: BodySenderEvents | undefined;
  #isSent = false;

  private constructor(
    request: IncomingMessage,
    isChunked: boolean,
    maxBytes: number,
    trailers: (rawTrailers: readonly string[]) => readonly string[],
  ) {
    this.#request = request;
    this.isChunked = isChunked;
    this.#maxBytes = maxBytes;
    this.#trailers = trailers;
  }

  /** @param trailers Those of the request that are sent. @returns undefined when the request has no body. */
  static of(
    request: IncomingMessage,
    maxBytes: number,
    trailers: (rawTrailers: readonly string[]) => readonly string[],
  ): BodySender | undefined {
    const kind = bodyKind(request);
    return kind === 'none' ? undefined : new BodySender(request, kind === 'chunked', maxBytes, trailers);
  }

  /** All of it was given to the connection. */
  get isSent(): boolean {
    return this.#isSent;
  }

  sendTo(connection: BackendConnection, events: BodySenderEvents): void {
    this.#connection = connection;
    this.#events = events;
    this.#request.on('end', this.#onEnd);
    this.#request.on('close', this.#onClose);
    this.#request.on('data', this.#onPart);
  }

  resume(): void {
    if (this.#connection) this.#request.resume();
  }

  /**
   * Nobody wants what is still to come. It is read all the same, as the client may answer to nothing before it has sent
   * it.
   */
  discard(): void {
    this.#stop();
    this.#request.resume();
  }

  readonly #onPart = (part: Buffer): void => {
    this.#bytes += part.length;
    if (this.#bytes > this.#maxBytes) return this.#events!.onTooLarge();
    const { socket } = this.#connection!;
    if (!this.isChunked) {
      if (!socket.write(part)) this.#request.pause();
      return;
    }
    socket.cork();
    socket.write(`${part.length.toString(16)}\r\n`, 'latin1');
    socket.write(part);
    const isTaken = socket.write('\r\n', 'latin1');
    socket.uncork();
    if (!isTaken) this.#request.pause();
  };

  readonly #onEnd = (): void => {
    const connection = this.#connection!;
    this.#stop();
    this.#isSent = true;
    if (this.isChunked) connection.socket.write(`0\r\n${this.#trailerLines()}\r\n`, 'latin1');
    connection.finish();
    this.#events!.onSent();
  };

  #trailerLines(): string {
    const trailers = this.#trailers(this.#request.rawTrailers);
    let lines = '';
    for (let i = 0; i < trailers.length; i += 2) lines += `${trailers[i]}: ${trailers[i + 1]}\r\n`;
    return lines;
  }

  /** The client has gone before the end: so the backend must see no end either. */
  readonly #onClose = (): void => {
    this.#connection!.destroy();
    this.#stop();
  };

  #stop(): void {
    this.#connection = undefined;
    this.#request.off('end', this.#onEnd);
    this.#request.off('close', this.#onClose);
    this.#request.off('data', this.#onPart);
  }
}
