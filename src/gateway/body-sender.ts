import type { IncomingMessage } from 'node:http';
import type { BackendConnection } from './backend-connection.ts';
import { bodyKind } from './request-body.ts';

/** The body of a client's request on its way to a backend: as it comes, with backpressure. */
export class BodySender {
  readonly isChunked: boolean;
  readonly #request: IncomingMessage;
  #connection: BackendConnection | undefined;
  #onSent: (() => void) | undefined;
  #isSent = false;

  private constructor(request: IncomingMessage, isChunked: boolean) {
    this.#request = request;
    this.isChunked = isChunked;
  }

  /** @returns undefined when the request has none. */
  static of(request: IncomingMessage): BodySender | undefined {
    const kind = bodyKind(request);
    return kind === 'none' ? undefined : new BodySender(request, kind === 'chunked');
  }

  /** All of it was given to the connection. */
  get isSent(): boolean {
    return this.#isSent;
  }

  sendTo(connection: BackendConnection, onSent: () => void): void {
    this.#connection = connection;
    this.#onSent = onSent;
    this.#request.on('end', this.#onEnd);
    this.#request.on('close', this.#onClose);
    this.#request.on('data', this.#onPart);
  }

  resume(): void {
    if (this.#connection) this.#request.resume();
  }

  /** Nobody wants what is still to come. It is read all the same, as the client may answer to nothing before it has sent it. */
  discard(): void {
    this.#stop();
    this.#request.resume();
  }

  readonly #onPart = (part: Buffer): void => {
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
    if (this.isChunked) connection.socket.write('0\r\n\r\n', 'latin1');
    connection.finish();
    this.#onSent!();
  };

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
