import type { IncomingMessage } from 'node:http';
import { type Refusal, refuse } from '../../http/refusal.ts';

/** What Node's parser has made sure of: a length is a number, and there are not two. */
export type BodyKind = 'none' | 'sized' | 'chunked';

export function bodyKind({ headers }: IncomingMessage): BodyKind {
  if (headers['transfer-encoding'] !== undefined) return 'chunked';
  const length = headers['content-length'];
  return length === undefined || Number(length) === 0 ? 'none' : 'sized';
}

/** @returns 413 for a body that is announced larger than it may be. */
export function refuseAnnouncedBody({ headers }: IncomingMessage, maxBodyBytes: number): Refusal | undefined {
  return Number(headers['content-length'] ?? 0) > maxBodyBytes ? bodyTooLarge(maxBodyBytes) : undefined;
}

export function bodyTooLarge(maxBodyBytes: number): Refusal {
  const reason = `the body has more than ${maxBodyBytes} bytes; raise maxBodySize of the upstream or send less`;
  return refuse(413, 'ERR_HTTP_BODY_TOO_LARGE', reason, { headers: { Connection: 'close' } });
}
