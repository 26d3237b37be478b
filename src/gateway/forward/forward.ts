import type { IncomingMessage } from 'node:http';
import { setClientTerms } from '../../http/client-terms.ts';
import { isConnectionSignIn } from '../../http/connection-sign-in.ts';
import { signInNeedsHttp1 } from '../../http/http1-required.ts';
import { isRefusal, type Refusal, refuse } from '../../http/refusal.ts';
import { refuseAnnouncedBody } from '../../http/request-body.ts';
import { requestHeadText } from '../connection/request-head-text.ts';
import { CLIENT_GONE_STATUS, type Forwarded } from '../exchange/exchange.ts';
import { backendRequestHeaders } from '../exchange/headers.ts';
import { Rewriting } from '../exchange/rewriting.ts';
import { announcedToBackend, backendTrailers, takesTrailers } from '../exchange/trailers.ts';
import { reportFailure } from '../upstream/failure.ts';
import { Attempt, type ForwardOptions } from './attempt.ts';
import { BodySender } from './body-sender.ts';

/** Without side effects, or with the same effect when sent twice. RFC 9110 §9.2.2. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);

/** Methods that have no body unless one is announced; for others its absence is announced. RFC 9110 §8.6. */
const BODILESS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'DELETE']);

/**
 * Sends a request on to a backend and the answer back to the client, both as they come, with backpressure both ways.
 *
 * The next server is tried as long as no connection can be made, within the upstream's bounds for retries. Once a byte
 * of the request may have been sent no other server gets it, with one exception: a request that may be repeated and has
 * no body is sent again, once, to the same server, when the kept connection it was put on had been closed by the
 * server.
 *
 * A sign-in of the connection (NTLM, Negotiate) has a connection of its own, which is bound to the client's: what
 * follows on the one goes on the other, and nowhere else, also when that fails. HTTP/2 cannot carry it, so such a
 * request is refused, and so is an answer that asks for nothing else.
 *
 * A body may be as large as the upstream lets it; then the request is refused (413), or cut off once it was answered.
 * How long a client may be silent is for the listener to keep (`ClientTerms`): it is refused (408), or cut off.
 *
 * The server must hand over requests with `Expect: 100-continue` without answering 100 itself (`checkContinue`): the
 * backend's 100 is passed on.
 *
 * Never throws, and rejects only when the session cannot say what the backend is to be told, whatever the sockets of
 * either side do.
 *
 * @returns a refusal when nothing was sent to the client: the caller answers it. Otherwise how the exchange ended.
 */
export async function forwardRequest(options: ForwardOptions): Promise<Forwarded | Refusal> {
  const { head, request, response, session, trace, upstream } = options;
  // An error of the client's connection is followed by `close` of the response, which is what we act on.
  request.on('error', ignore);
  response.on('error', ignore);

  const tooLarge = refuseAnnouncedBody(request, upstream.maxBodyBytes);
  if (tooLarge) return tooLarge;
  setClientTerms(request, upstream);
  const body = BodySender.of(request, upstream.maxBodyBytes, raw => backendTrailers(raw, options));
  let added = session?.requestHeaders();
  if (added instanceof Promise) added = await added;
  if (trace) added = [...(added ?? []), ...trace.contextHeaders()];
  const rewriting = new Rewriting(options);
  const headers = backendRequestHeaders(options, rewriting, added);
  // Streams of HTTP/2 share a connection, and no backend could tell whose they are.
  const client = request.httpVersionMajor === 1 ? request.socket : undefined;
  // Cheap for the many requests without credentials.
  const isSignIn = head.headers.authorization !== undefined && isConnectionSignIn(headers);
  if (isSignIn && !client) return giveUpBody(request, signInNeedsHttp1());
  // Transfer-Encoding concerns one connection only and is gone by now: where the body ends must be said anew.
  if (body?.isChunked) {
    headers.push('Transfer-Encoding', 'chunked');
    const trailer = announcedToBackend(options);
    if (trailer !== undefined) headers.push('Trailer', trailer);
  } else if (head.headers['content-length'] === undefined && !BODILESS.has(head.method))
    headers.push('Content-Length', '0');
  trace?.sent(headers);
  const text = requestHeadText(head.method, rewriting.target, headers);
  if (text === undefined) return refuse(400, 'ERR_HTTP_BAD_REQUEST', 'the request cannot be written to a backend');

  let refusal: Refusal | undefined;
  const selection = upstream.select(head, options.affinityKey ?? options.sid);
  const bound = client && upstream.bound.of(client);
  const forwarded = {
    options,
    selection,
    rewriting,
    text,
    body,
    takesTrailers: takesTrailers(request),
    client,
    isSignIn,
  };
  for (let server = bound?.server ?? selection.next(); server; server = selection.next()) {
    const traced = trace && { upstream: upstream.name, url: server.url, why: bound ? BOUND : selection.whyOf(server) };
    if (traced) trace.chosen(traced);
    for (let repeated = false; ; repeated = true) {
      const result = await new Attempt(forwarded, server).run(repeated, bound);
      if (isRefusal(result)) return giveUpBody(request, result);
      if ('isAnswered' in result) {
        const fields = { upstream: upstream.name, server: server.url, status: CLIENT_GONE_STATUS };
        if (!result.isAnswered) upstream.logger.info(fields, 'client gone before the answer');
        return result;
      }
      refusal = reportFailure(upstream, server, result);
      if (traced) trace.failed(traced, result.reason);
      const mayRepeat = body === undefined && IDEMPOTENT.has(head.method) && !bound;
      if (result.isStale && !repeated && mayRepeat) continue;
      // To close a kept connection is a server's right.
      if (!result.isStale) server.failed(result.reason, result.isConnected);
      if (result.isConnected) return giveUpBody(request, refusal);
      break;
    }
  }
  return giveUpBody(request, refusal ?? upstream.refusal(selection));
}

/** Why a server was chosen. */
const BOUND = 'the connection is signed in there';

function ignore(): void {}

/** A request body that nobody will read makes the connection useless for another request. */
function giveUpBody(request: IncomingMessage, refusal: Refusal): Refusal {
  return request.complete ? refusal : { ...refusal, headers: { ...refusal.headers, Connection: 'close' } };
}
