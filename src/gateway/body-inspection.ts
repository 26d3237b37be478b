import type { IncomingMessage, ServerResponse } from 'node:http';
import { readBodyFirst } from '../http/body-first.ts';
import { isRefusal, type Refusal } from '../http/refusal.ts';
import { bodyKind } from '../http/request-body.ts';
import type { RequestHead } from '../http/request-head.ts';
import type { Inspection } from '../policy/inspection.ts';
import type { Route } from './route.ts';

/** Judges the body of a request before its target sees any of it. It can be read as before after that. */
export async function inspectBody(
  { inspection, name, target }: Route,
  head: RequestHead,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<Refusal | undefined> {
  const readsIt = target.kind === 'upstream' || target.kind === 'fetch' || target.kind === 'files';
  if (!inspection?.readsBodies || !readsIt || bodyKind(request) === 'none') return undefined;
  const refusal = await judge(inspection, head, request, response, name);
  if (!refusal) return undefined;
  // Nobody wants it any more, and no other request can come behind what is not read.
  if (request.complete) request.resume();
  return request.complete ? refusal : { ...refusal, headers: { ...refusal.headers, Connection: 'close' } };
}

async function judge(
  inspection: Inspection,
  head: RequestHead,
  request: IncomingMessage,
  response: ServerResponse,
  route: string,
): Promise<Refusal | undefined> {
  if (!inspection.isReadable(head)) return inspection.refuseOther(head, 'unreadable');
  const isLarge = Number(head.headers['content-length'] ?? 0) > inspection.maxBodyBytes;
  const refusal = isLarge ? inspection.refuseOther(head, 'large') : undefined;
  if (refusal) return refusal;
  const body = await readBodyFirst(request, response, inspection.maxBodyBytes);
  if (body === undefined || isRefusal(body)) return body;
  const tooLarge = body.isWhole ? undefined : inspection.refuseOther(head, 'large');
  return tooLarge ?? inspection.judgeBody(body.bytes, head, route);
}
