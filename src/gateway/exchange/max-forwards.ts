import type { IncomingMessage, ServerResponse } from 'node:http';
import { headerName } from '../../http/header-name.ts';
import { type Refusal, refuse } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';

/** Names of headers that may hold what identifies or authorizes a client. The private ones of servers come on top. */
const SENSITIVE = /cookie|auth|token|secret|session|passw|credential|signature|csrf|xsrf|key|forwarded|cert/;

/** Is `Max-Forwards` a count in such a request? (RFC 9110 §7.6.2) */
export function countsForwards(method: string): boolean {
  return method === 'OPTIONS' || method === 'TRACE';
}

/**
 * Judges `Max-Forwards`.
 *
 * @returns `last`: the request goes no further, and it is for us to answer it. A refusal with 400 when it is not one
 * number: who sends it means to limit the way.
 */
export function judgeForwards({ method, rawHeaders }: RequestHead): 'last' | Refusal | undefined {
  if (!countsForwards(method)) return undefined;
  let value: string | undefined;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]!.toLowerCase() !== 'max-forwards') continue;
    const isNumber = value === undefined && /^\d+$/.test(rawHeaders[i + 1]!);
    if (!isNumber) return refuse(400, 'ERR_HTTP_BAD_REQUEST', 'Max-Forwards is not one number');
    value = rawHeaders[i + 1]!;
  }
  return value !== undefined && Number(value) === 0 ? 'last' : undefined;
}

/** What the next server is told of a count that it may still be forwarded by. */
export function countedDown(value: string): string {
  return String(Math.min(Number(value), Number.MAX_SAFE_INTEGER) - 1);
}

/**
 * Answers a request that goes no further. `OPTIONS` says nothing of the backend, whom nobody asks. `TRACE` shows what
 * has arrived (RFC 9110 §9.3.8), without what identifies or authorizes its client, or was added by other servers.
 */
export function answerAsLast(
  { method, url, httpVersion }: IncomingMessage,
  response: ServerResponse,
  head: RequestHead,
): void {
  if (method === 'OPTIONS') {
    response.writeHead(200, { 'Content-Length': 0 }).end();
    return;
  }
  let text = `TRACE ${url} HTTP/${httpVersion}\r\n`;
  for (let i = 0; i < head.rawHeaders.length; i += 2) {
    const name = head.rawHeaders[i]!;
    const { folded, isPrivate } = headerName(name);
    if (!isPrivate && !SENSITIVE.test(folded) && !folded.startsWith('proxy'))
      text += `${name}: ${head.rawHeaders[i + 1]}\r\n`;
  }
  const body = Buffer.from(`${text}\r\n`, 'latin1');
  response
    .writeHead(200, {
      'Content-Type': 'message/http',
      'Content-Length': body.length,
      'X-Content-Type-Options': 'nosniff',
    })
    .end(body);
}
