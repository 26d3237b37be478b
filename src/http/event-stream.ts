import type { ServerResponse } from 'node:http';

/** A property, because a weak map of objects that live as long as a request keeps the garbage collector busy. */
const STREAM = Symbol('holdfast event stream');
type KnownResponse = ServerResponse & { [STREAM]?: true };

const TYPE = /^\s*text\/event-stream\b/i;

/** Notes what kind of answer it is, for a head that the response itself does not know field by field. */
export function noteEventStream(response: ServerResponse, rawHeaders: readonly string[]): void {
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (
      rawHeaders[i]!.length === 12 &&
      rawHeaders[i]!.toLowerCase() === 'content-type' &&
      TYPE.test(rawHeaders[i + 1]!)
    )
      (response as KnownResponse)[STREAM] = true;
}

/** Does the answer, whose head has left, go on until somebody ends it (HTML §9.2, server-sent events)? */
export function isEventStream(response: ServerResponse): boolean {
  if (!response.headersSent || response.writableEnded) return false;
  return (response as KnownResponse)[STREAM] === true || TYPE.test(String(response.getHeader('content-type') ?? ''));
}
