import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { ResponseHead } from '../../http/response-head.ts';
import type { AnswerSink, BackendConnection } from './connection.ts';

/** What becomes of the request. After `onSwitched`, `onDeclined` or `onFailed` nothing follows. */
export interface UpgradeHandler {
  /** The connection is open, and the request is on its way. */
  onSent(): void;
  /** 101. The socket is paused, and nobody listens to it any more. @param early What came behind the head. */
  onSwitched(head: ResponseHead, socket: Socket, early: Buffer): void;
  /** Any other status. */
  onDeclined(answer: DeclinedAnswer): void;
  onFailed(error: Error): void;
}

/** The answer of a backend that does not switch protocols, with its body. Destroying it closes the connection. */
export class DeclinedAnswer extends Readable {
  readonly head: ResponseHead;
  /** False until the body has come as a whole. */
  complete = false;
  readonly #connection: BackendConnection;

  constructor(head: ResponseHead, connection: BackendConnection) {
    super();
    this.head = head;
    this.#connection = connection;
  }

  override _read(): void {
    this.#connection.resume();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#connection.destroy();
    callback(error);
  }
}

/**
 * One GET on a connection that nothing else uses, as a rule for an upgrade: then the socket belongs to another protocol,
 * or is closed.
 */
export class UpgradeClient implements AnswerSink {
  readonly #connection: BackendConnection;
  readonly #text: string;
  readonly #handler: UpgradeHandler;
  #answer: DeclinedAnswer | undefined;

  /** @param text Request line and headers, without the empty line. */
  constructor(connection: BackendConnection, text: string, handler: UpgradeHandler) {
    this.#text = text;
    this.#handler = handler;
    this.#connection = connection;
    connection.take(this);
  }

  onOpen(): void {
    this.#connection.start('GET', `${this.#text}\r\n`, false);
    this.#handler.onSent();
  }

  /** Interim answers mean nothing to a WebSocket. */
  onInformation(): void {}

  onHead(head: ResponseHead): void {
    const connection = this.#connection;
    if (head.status === 101) {
      connection.detach(early => this.#handler.onSwitched(head, connection.socket, early));
      return;
    }
    this.#answer = new DeclinedAnswer(head, connection);
    this.#handler.onDeclined(this.#answer);
  }

  onBody(chunk: Buffer, start: number, end: number): void {
    if (!this.#answer!.push(Buffer.from(chunk.subarray(start, end)))) this.#connection.pause();
  }

  onEnd(): void {
    this.#answer!.complete = true;
    this.#answer!.push(null);
  }

  onDrain(): void {}

  onLost(error: Error): void {
    if (this.#answer) this.#answer.destroy();
    else this.#handler.onFailed(error);
  }
}
