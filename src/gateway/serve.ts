import type { IncomingMessage, ServerResponse } from 'node:http';
import { isRefusal, type Refusal, refuse } from '../http/refusal.ts';
import { parseUpgrade } from '../http/upgrade-request.ts';
import { userOf } from '../websocket/handshake.ts';
import type { Admitted, Gateway } from './admit.ts';
import { answerPolicyOf } from './answer-policy.ts';
import { inspectBody } from './body-inspection.ts';
import { answerAsLast, judgeForwards } from './exchange/max-forwards.ts';
import { UrlClient } from './exchange/url-client.ts';
import { exchangeSession } from './exchange-session.ts';
import { forwardRequest } from './forward/forward.ts';
import type { HeldSession } from './held-session.ts';
import { type FetchHandler, type RunFetchHandlerOptions, runFetchHandler } from './targets/fetch.ts';
import { issueSocketTicket } from './targets/socket-ticket.ts';

/** Of a request to a page of a scheme: a form to sign in with, or a token. Strangers send them. */
const MAX_PAGE_BODY_BYTES = 64 * 1024;

/** The server that has answered, or had the request when its client left. */
export interface Served {
  readonly upstream: string;
  readonly server?: string | undefined;
}

/**
 * Takes an admitted HTTP request to its target. Rejects only for what nobody foresaw.
 *
 * @returns a refusal that is still to be answered; or who has answered, where that was not us. Status and bytes are the
 * response's to say, when it closes.
 */
export async function serve(
  admitted: Admitted,
  request: IncomingMessage,
  response: ServerResponse,
  gateway: Gateway,
): Promise<Served | Refusal | undefined> {
  const { held } = admitted;
  if (response.closed) {
    // The client has gone while its session was read, and will never go again.
    held?.[Symbol.dispose]();
    return undefined;
  }
  const { principal, authentication } = admitted;
  // As set by a service that has let the user in: one that renews its login.
  for (const cookie of (principal && authentication?.responseCookies(principal)) ?? [])
    response.appendHeader('Set-Cookie', cookie);
  if (!held) return answer(admitted, request, response, gateway);
  held.answerWith(response);
  let served: Served | Refusal | undefined;
  try {
    served = await answer(admitted, request, response, gateway);
  } catch (error) {
    await commitRest(held, response);
    throw error;
  }
  if (!isRefusal(served)) return served;
  // Whoever is refused gets no session.
  held.binding.withdraw();
  const uncommitted = await commitRest(held, response);
  // A backend may have had the request before.
  return uncommitted ? { ...uncommitted, upstream: served.upstream, server: served.server } : served;
}

/** Before a refusal is written. */
function commitRest(held: HeldSession, response: ServerResponse): Promise<Refusal | undefined> | undefined {
  return response.headersSent ? undefined : held.responseCommit?.beforeEnd();
}

/** Each target commits the session before its answer begins; where there is a refusal that is left to do. */
async function answer(
  admitted: Admitted,
  request: IncomingMessage,
  response: ServerResponse,
  gateway: Gateway,
): Promise<Served | Refusal | undefined> {
  const { head, route, held, observed } = admitted;
  const { target } = route;
  const inspected = await inspectBody(route, head, request, response);
  if (inspected) return inspected;
  if (response.closed) return undefined;
  const urlClient = UrlClient.of(admitted, target.kind === 'upstream' ? target.rewriter : undefined);
  const policy = answerPolicyOf(route, head, admitted.authentication);
  switch (target.kind) {
    case 'endpoint': {
      // Not an upgrade, or it would not be here: the checks of the handshake say what is missing.
      const upgrade = head.upgrade ?? parseUpgrade(head);
      return isRefusal(upgrade) ? upgrade : refuse(426, 'ERR_WS_UPGRADE_REQUIRED', 'the request is not an upgrade');
    }
    case 'redirect': {
      const location = urlClient?.toClient('location', target.location) ?? target.location;
      urlClient?.protectResponse(response);
      policy?.putOn(response);
      const refusal = await held?.responseCommit?.beforeEnd();
      if (!refusal) response.writeHead(308, { Location: location, 'Content-Length': 0 }).end();
      return refusal;
    }
    case 'files': {
      urlClient?.protectResponse(response);
      policy?.putOn(response);
      const refusal = await target.serve(request, response, admitted.rest, held?.responseCommit);
      if (refusal?.status !== 404 || !target.otherwise) return refusal;
      return runHandler(target.otherwise, admitted, request, response, gateway, { urlClient, policy });
    }
    case 'socket-ticket':
      return issueSocketTicket(admitted, response, target.tickets, target.route, policy);
    case 'fetch':
      return runHandler(target.handler, admitted, request, response, gateway, { urlClient, policy });
    case 'page': {
      const { page, place } = target;
      const show: FetchHandler = async request => page.handle(request, { head, session: held?.shown, place });
      const limits = { logger: gateway.logger, maxBodyBytes: Math.min(gateway.maxBodyBytes, MAX_PAGE_BODY_BYTES) };
      return runHandler(show, admitted, request, response, limits, { urlClient, policy });
    }
    case 'upstream': {
      const forwards = judgeForwards(head);
      if (isRefusal(forwards)) return forwards;
      if (forwards === 'last') {
        const refusal = await held?.responseCommit?.beforeEnd();
        policy?.putOn(response);
        if (!refusal) answerAsLast(request, response, head);
        return refusal;
      }
      const forwarded = await forwardRequest({
        head,
        request,
        response,
        upstream: target.upstream,
        rewrite: target.rewrite,
        sid: observed ? undefined : held?.session?.id,
        affinityKey: observed?.key ?? held?.session?.id,
        session: exchangeSession(admitted, target.upstream),
        urlClient,
        policy,
        trace: admitted.trace,
      });
      return isRefusal(forwarded) ? forwarded : { upstream: target.upstream.name, server: forwarded.server.url };
    }
  }
}

function runHandler(
  handler: FetchHandler,
  { head, held, params, principal }: Admitted,
  request: IncomingMessage,
  response: ServerResponse,
  gateway: Pick<Gateway, 'logger' | 'maxBodyBytes'>,
  answering: Pick<RunFetchHandlerOptions, 'urlClient' | 'policy'>,
): Promise<Refusal | undefined> {
  const context = {
    session: held?.shown,
    user: userOf(principal, held?.session),
    clientAddress: head.clientAddress,
    params,
    isSecure: head.isSecure,
  };
  return runFetchHandler(handler, request, response, head, context, {
    logger: gateway.logger,
    maxBodyBytes: gateway.maxBodyBytes,
    onRequest: carrier => held?.context.manager.bindTo(carrier, held.binding),
    commit: held?.responseCommit,
    ...answering,
  });
}
