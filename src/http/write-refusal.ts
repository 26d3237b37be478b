import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { dateNow } from './date-now.ts';
import { askForHttp1 } from './http1-required.ts';
import { http } from './node-http.ts';
import type { Refusal } from './refusal.ts';

const CONTENT_TYPE = 'text/plain; charset=utf-8';

/** Writes a refusal as the answer to a request. */
export function writeRefusal(response: ServerResponse, refusal: Refusal): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  if (askForHttp1(refusal, response)) return;
  const body = refusalBody(refusal);
  response.writeHead(refusal.status, {
    'Content-Type': CONTENT_TYPE,
    'Content-Length': Buffer.byteLength(body),
    ...(refusal.headers?.Upgrade !== undefined && {
      // RFC 9110 §7.8: Upgrade is hop-by-hop, so Connection must name it.
      Connection: response.shouldKeepAlive ? 'Upgrade' : 'close, Upgrade',
    }),
    ...(refusal.headers as OutgoingHttpHeaders | undefined),
  });
  response.end(body);
}

/** The same as text, for a socket that no HTTP server answers on any more. The socket must be ended after it. */
export function refusalResponse(refusal: Refusal): string {
  const body = refusalBody(refusal);
  let head = `HTTP/1.1 ${refusal.status} ${http.STATUS_CODES[refusal.status] ?? 'Unknown'}\r\n`;
  let hasType = false;
  let connection = 'close';
  for (const [name, value] of Object.entries(refusal.headers ?? {})) {
    const lower = name.toLowerCase();
    // The framing and the end of the connection are decided here.
    if (lower === 'connection' || lower === 'content-length' || lower === 'transfer-encoding') continue;
    if (lower === 'content-type') hasType = true;
    // RFC 9110 §7.8: Upgrade is hop-by-hop, so Connection must name it.
    if (lower === 'upgrade') connection = 'close, Upgrade';
    for (const line of [value].flat()) head += `${name}: ${line}\r\n`;
  }
  if (!hasType) head += `Content-Type: ${CONTENT_TYPE}\r\n`;
  head += `Date: ${dateNow()}\r\n`;
  return `${head}Connection: ${connection}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

/** No more than the status says, unless the refusal brings its own. */
export function refusalBody({ status, body }: Refusal): string {
  return body ?? `${http.STATUS_CODES[status] ?? 'Unknown'}\n`;
}
