import type { IncomingMessage, ServerResponse } from 'node:http';
import { HoldfastError } from '../base/errors.ts';
import { type ClientTerms, setClientTerms } from './client-terms.ts';
import { type Refusal, refuse } from './refusal.ts';

/** What Node's parser has made sure of: a length is a number, and there are not two. */
export type BodyKind = 'none' | 'sized' | 'chunked';

export function bodyKind({ headers }: IncomingMessage): BodyKind {
  if (headers['transfer-encoding'] !== undefined) return 'chunked';
  const length = headers['content-length'];
  return length === undefined || Number(length) === 0 ? 'none' : 'sized';
}

/** @returns 413 for a body that is announced larger than it may be. */
export function refuseAnnouncedBody({ headers }: IncomingMessage, maxBytes: number): Refusal | undefined {
  return Number(headers['content-length'] ?? 0) > maxBytes ? bodyTooLarge(maxBytes) : undefined;
}

export function bodyTooLarge(maxBytes: number): Refusal {
  const reason = `the body has more than ${maxBytes} bytes; raise maxBodySize (an upstream has its own) or send less`;
  // The rest is not wanted, and nothing else can come behind it.
  return refuse(413, 'ERR_HTTP_BODY_TOO_LARGE', reason, { headers: { Connection: 'close' } });
}

/** A request body as a web stream: read on demand, never ahead; cancelling it spares the connection. */
export class IncomingBody implements ClientTerms {
  readonly stream: ReadableStream<Uint8Array>;
  /** Why there is no more of it. */
  refusal: Refusal | undefined;
  /** From the first time that the handler reads it. */
  isBodyAwaited = false;
  readonly #incoming: IncomingMessage;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;

  constructor(incoming: IncomingMessage, outgoing: ServerResponse, maxBytes: number) {
    this.#incoming = incoming;
    this.#chunks = incoming.iterator({ destroyOnReturn: false });
    setClientTerms(incoming, this);
    let bytes = 0;
    this.stream = new ReadableStream<Uint8Array>(
      {
        start: controller => {
          this.#controller = controller;
        },
        pull: async controller => {
          const isWanted = !this.isBodyAwaited;
          this.isBodyAwaited = true;
          // Only now is it known that the client's body is wanted (RFC 9110 §10.1.1).
          if (isWanted && incoming.headers.expect !== undefined && !outgoing.headersSent) outgoing.writeContinue();
          const { done, value } = await this.#chunks.next();
          if (this.refusal) return;
          bytes += value?.length ?? 0;
          if (bytes > maxBytes) this.#fail(bodyTooLarge(maxBytes));
          else if (done) controller.close();
          else controller.enqueue(value);
        },
        cancel: () => this.discardRest(),
      },
      { highWaterMark: 0 },
    );
  }

  /** Reads on to the end of the request, so that the connection can carry the next one. */
  discardRest(): void {
    this.isBodyAwaited = false;
    void this.#chunks.return?.().then(() => this.#incoming.resume());
  }

  onSlowBody(refusal: Refusal): void {
    this.#fail(refusal);
  }

  #fail(refusal: Refusal): void {
    this.refusal ??= refusal;
    this.#controller!.error(new HoldfastError(refusal.code, refusal.reason, { status: refusal.status }));
  }
}
