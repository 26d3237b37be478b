import http2, { type ServerHttp2Stream } from 'node:http2';

/**
 * Ends a stream that was answered. What the client still sends is not wanted, and it need not wait for an end that it
 * does not expect.
 */
export function endStream(stream: ServerHttp2Stream, body: Buffer, done: () => void): void {
  stream.end(body, () =>
    // A reset overtakes headers that have not left yet.
    setImmediate(() => {
      stream.close(http2.constants.NGHTTP2_NO_ERROR);
      done();
    }),
  );
}

/**
 * Resets a stream, unless all of its answer has left. Node ends a stream before it resets it, and what was cut off
 * would look complete.
 */
export function resetStream(stream: ServerHttp2Stream, code: number): void {
  if (stream.writableFinished || stream.closed) return;
  // Without the frame that says so.
  stream._final = callback => callback();
  stream.close(code);
}
