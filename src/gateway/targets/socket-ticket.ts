import type { ServerResponse } from 'node:http';
import { type Refusal, refuse } from '../../http/refusal.ts';
import type { AnswerPolicy } from '../../policy/answer-policy.ts';
import type { SocketTickets } from '../../policy/auth/socket-tickets.ts';
import type { Admitted } from '../admit.ts';

/**
 * Answers a request for a ticket with `{ "ticket": "…", "expiresIn": 10 }` (seconds).
 *
 * @param route The one whose handshakes take it.
 * @returns a refusal that is still to be answered: 401 for a request that has neither a user nor a session, 429 for one
 * user or session that asks for too many.
 */
export async function issueSocketTicket(
  admitted: Admitted,
  response: ServerResponse,
  tickets: SocketTickets,
  route: string,
  policy: AnswerPolicy | undefined,
): Promise<Refusal | undefined> {
  const { head, held, shown, authentication } = admitted;
  const text = held?.binding.ticketText;
  const session = text === undefined ? undefined : { sid: held!.binding.current!.id, text };
  if (!session && !shown)
    return refuse(401, 'ERR_AUTH_REQUIRED', 'the request has neither a user nor a session to give a ticket for');
  const kept = shown && authentication?.keep(shown);
  const ticket = await tickets.issue({ origin: head.headers.origin, route, principal: shown, kept, session });
  if (ticket === undefined) {
    const seconds = Math.ceil(tickets.ttlMs / 1_000);
    return refuse(429, 'ERR_POLICY_TICKETS', 'a user or session has asked for too many tickets', {
      headers: { 'Retry-After': String(seconds) },
    });
  }
  policy?.putOn(response);
  const refusal = await held?.responseCommit?.beforeEnd();
  if (refusal) return refusal;
  const body = JSON.stringify({ ticket, expiresIn: tickets.ttlMs / 1_000 });
  response.writeHead(200, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
  });
  response.end(body);
  return undefined;
}
