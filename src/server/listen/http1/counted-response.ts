import { ServerResponse } from 'node:http';

/** Counts its body for the access log, as one of HTTP/2 does anyway. */
export class CountedResponse extends ServerResponse {
  /** Of the body, so far; what an answer without one is given counts as well. */
  bytesWritten = 0;

  override write(...args: unknown[]): boolean {
    const isTaken = Reflect.apply(super.write, this, args);
    this.#count(args);
    return isTaken;
  }

  /** Node does not call `write` for what it is given. */
  override end(...args: unknown[]): this {
    Reflect.apply(super.end, this, args);
    this.#count(args);
    return this;
  }

  #count([chunk, encoding]: readonly unknown[]): void {
    if (chunk instanceof Uint8Array) this.bytesWritten += chunk.length;
    else if (typeof chunk === 'string')
      this.bytesWritten += Buffer.byteLength(
        chunk,
        typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8',
      );
  }
}
