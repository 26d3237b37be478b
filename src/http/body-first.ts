import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ClientTerms, setClientTerms } from './client-terms.ts';
import type { Refusal } from './refusal.ts';

/** What of a body was read: all of it, or more than was asked for. `undefined`: the client has gone. */
export type BodyBeginning = { readonly bytes: Buffer; readonly isWhole: boolean } | undefined;

/** Of HTTP/2, whose requests say that they are complete when they have been read only. */
export interface ReceivingRequest {
  readonly isBodyReceived?: boolean;
}

/**
 * Reads a body up to a number of bytes, and puts it back: who reads the request after that gets all of it.
 *
 * It takes no `end` from the stream, which could not be put back: the last bytes are put back before the stream finds
 * out that it is empty.
 *
 * @returns 408 when the client does not send it in time.
 */
export function readBodyFirst(
  request: IncomingMessage & ReceivingRequest,
  response: ServerResponse,
  maxBytes: number,
): Promise<BodyBeginning | Refusal> {
  return new Promise(resolve => {
    const parts: Buffer[] = [];
    let length = 0;
    const terms: ClientTerms & { isBodyAwaited: boolean } = {
      isBodyAwaited: true,
      onSlowBody: refusal => settle(refusal),
    };
    const settle = (result: BodyBeginning | Refusal) => {
      terms.isBodyAwaited = false;
      request.off('readable', read).off('close', leave);
      void resolve(result);
    };
    const leave = () => settle(undefined);
    const read = () => {
      // Reading from nothing would end it.
      while (request.readableLength > 0 && length <= maxBytes) {
        const part = request.read() as Buffer;
        parts.push(part);
        length += part.length;
      }
      const isWhole = request.complete || request.isBodyReceived === true;
      if (length <= maxBytes && !isWhole) return;
      const bytes = Buffer.concat(parts, length);
      if (length > 0) request.unshift(bytes);
      settle({ bytes, isWhole: isWhole && length <= maxBytes });
    };
    setClientTerms(request, terms);
    request.on('readable', read).on('close', leave);
    if (request.headers.expect !== undefined) response.writeContinue();
  });
}
