import { type ServerResponse, STATUS_CODES } from 'node:http';
import { askForHttp1 } from './http1-required.ts';
import type { Refusal } from './refusal.ts';

/** Writes a refusal as the answer. The body says no more than the status, unless the refusal brings its own. */
export function writeRefusal(response: ServerResponse, refusal: Refusal): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  if (askForHttp1(refusal, response)) return;
  const body = refusal.body ?? `${STATUS_CODES[refusal.status] ?? 'Error'}\n`;
  response.writeHead(refusal.status, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    ...refusal.headers,
  });
  response.end(body);
}
