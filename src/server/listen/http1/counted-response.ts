import { http } from '../../../http/node-http.ts';
import { chunkBytes } from '../chunk-bytes.ts';

/** Counts its body for the access log, as one of HTTP/2 does anyway. */
export class CountedResponse extends http.ServerResponse {
  /** Of the body, so far; what an answer without one is given counts as well. */
  bytesWritten = 0;

  override write(...args: unknown[]): boolean {
    const isTaken = Reflect.apply(super.write, this, args);
    this.bytesWritten += chunkBytes(args);
    return isTaken;
  }

  /** Node does not call `write` for what it is given. */
  override end(...args: unknown[]): this {
    Reflect.apply(super.end, this, args);
    this.bytesWritten += chunkBytes(args);
    return this;
  }
}
