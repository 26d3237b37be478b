import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { Admitted } from '../../gateway/admit.ts';
import { ManagedSession } from '../../gateway/backend-session/managed.ts';
import { bothSessions } from '../../gateway/backend-session/observed/observer.ts';
import { forwardRequest } from '../../gateway/forward/forward.ts';
import type { OwnNames } from '../../gateway/own-names.ts';
import { type FetchHandler, runFetchHandler } from '../../gateway/targets/fetch.ts';
import { isRefusal, type Refusal, refuse } from '../../http/refusal.ts';
import { commitBeforeHeaders } from '../../session/request/commit-before-headers.ts';
import { userFrom } from '../../websocket/handshake.ts';
import { parseUpgrade } from '../../websocket/protocol/handshake.ts';

export interface AnswerParts {
  readonly own: OwnNames;
  /** Largest request body that a fetch handler gets. */
  readonly maxBodyBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Takes an admitted HTTP request to its target. Rejects only for what nobody foresaw. @returns a refusal that is still to be answered. */
export async function answer(
  admitted: Admitted,
  request: IncomingMessage,
  response: ServerResponse,
  parts: AnswerParts,
): Promise<Refusal | undefined> {
  const { head, route, held, observed } = admitted;
  if (response.closed) {
    // The client has gone while its session was read, and will never go again.
    held?.binding.release();
    return undefined;
  }
  if (held) {
    commitBeforeHeaders(held.binding, response);
    response.once('close', () => held.binding.release());
  }
  const { target } = route;
  switch (target.kind) {
    case 'endpoint': {
      // Not an upgrade, or it would not be here: the checks of the handshake say what is missing.
      const upgrade = parseUpgrade(head);
      return isRefusal(upgrade) ? upgrade : refuse(426, 'ERR_WS_UPGRADE_REQUIRED', 'the request is not an upgrade');
    }
    case 'redirect':
      response.writeHead(308, { Location: target.location, 'Content-Length': 0 }).end();
      return undefined;
    case 'files': {
      const refusal = await target.serve(request, response, admitted.rest);
      if (refusal?.status !== 404 || !target.otherwise) return refusal;
      return runHandler(target.otherwise, admitted, request, response, parts);
    }
    case 'fetch':
      return runHandler(target.handler, admitted, request, response, parts);
    case 'upstream': {
      const managed = new ManagedSession({ held, upstream: target.upstream, logger: parts.logger });
      const forwarded = await forwardRequest({
        head,
        request,
        response,
        upstream: target.upstream,
        rewrite: target.rewrite,
        sid: observed ? undefined : held?.session?.id,
        affinityKey: observed?.key ?? held?.session?.id,
        session: observed ? bothSessions(managed, observed) : managed,
        own: parts.own,
        clock: parts.clock,
        logger: parts.logger,
      });
      return isRefusal(forwarded) ? forwarded : undefined;
    }
  }
}

function runHandler(
  handler: FetchHandler,
  { head, held, params }: Admitted,
  request: IncomingMessage,
  response: ServerResponse,
  parts: AnswerParts,
): Promise<Refusal | undefined> {
  const { session } = held ?? {};
  const context = {
    session,
    user: session?.owner && userFrom(session.owner),
    clientAddress: head.clientAddress,
    params,
    isSecure: head.isSecure,
  };
  return runFetchHandler(handler, request, response, head, context, {
    logger: parts.logger,
    maxBodyBytes: parts.maxBodyBytes,
    onRequest: carrier => held?.context.manager.bindTo(carrier, held.binding),
  });
}
