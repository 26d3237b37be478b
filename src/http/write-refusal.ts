import { type ServerResponse, STATUS_CODES } from 'node:http';
import { askForHttp1 } from './http1-required.ts';
import type { Refusal } from './refusal.ts';

/** Writes a refusal as the answer. */
export function writeRefusal(response: ServerResponse, refusal: Refusal): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  if (askForHttp1(refusal, response)) return;
  const body = refusalBody(refusal);
  response.writeHead(refusal.status, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': body.length,
    ...refusal.headers,
  });
  response.end(body);
}

/** No more than the status says, unless the refusal brings its own. */
export function refusalBody({ status, body }: Refusal): Buffer {
  return Buffer.from(body ?? `${STATUS_CODES[status] ?? 'Unknown'}\n`);
}
