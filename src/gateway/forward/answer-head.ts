import type { ServerResponse } from 'node:http';
import { noteEventStream } from '../../http/event-stream.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { HeadersBefore } from '../../http/headers-before.ts';
import type { ResponseHead } from '../../http/response-head.ts';
import { keepFromSharedCaches } from '../../http/shared-caches.ts';

/**
 * Writes the head of a backend's answer.
 *
 * @param headers Those of the answer that the client gets.
 * @param tieingCookie What ties the client to the server that has answered.
 * @throws what Node says of a status or header that it cannot write; the response is as it was then.
 */
export function writeHead(
  response: ServerResponse,
  { status, statusMessage }: ResponseHead,
  headers: readonly string[],
  tieingCookie: string | undefined,
  sessionLines: readonly HeaderLine[] | undefined,
): void {
  const before = new HeadersBefore(response);
  try {
    const becomesPrivate = tieingCookie !== undefined || (sessionLines !== undefined && sessionLines.length > 0);
    if (!becomesPrivate && before.areNone) {
      response.writeHead(status, statusMessage, headers as string[]);
      noteEventStream(response, headers);
      return;
    }
    // One header at a time, because others have set some already: a `Set-Cookie` of ours must stay.
    const seen = new Set(['set-cookie']);
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i]!;
      const lower = name.toLowerCase();
      if (seen.has(lower)) response.appendHeader(name, headers[i + 1]!);
      else response.setHeader(name, headers[i + 1]!);
      seen.add(lower);
    }
    for (const { name, value } of sessionLines ?? []) response.appendHeader(name, value);
    if (tieingCookie !== undefined) response.appendHeader('Set-Cookie', tieingCookie);
    if (becomesPrivate) keepFromSharedCaches(response);
    response.writeHead(status, statusMessage);
  } catch (error) {
    before.restore();
    throw error;
  }
}
