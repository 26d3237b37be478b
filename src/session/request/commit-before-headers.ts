import type { ServerResponse } from 'node:http';
import type { SessionBinding } from './binding.ts';
import { DeferredResponse, type Method, type Methods } from './deferred-response.ts';

/**
 * Defers a response until what the handler changed in its session is committed: a client that follows a redirect finds
 * its data, and a commit that fails can still be answered with 503 (409 when it lost against another request, under the
 * policy `reject`).
 *
 * The first of `writeHead`, `write`, `end` and `flushHeaders` starts the commit; they are queued until it is done, and
 * status and headers can be changed so long. `write` returns false meanwhile and `drain` follows. Informational
 * responses (1xx) pass. Without a change nothing is deferred. What is set after the headers is committed before the
 * response ends; when that fails the connection is cut, because it is too late for a status. When the client has gone
 * before the end, as it does with server-sent events, it is committed then.
 *
 * A deferred response looks as far along as it would be without us: `headersSent` is true, and after its end
 * `writableEnded`, so that frameworks treat a handler that fails after it as they always do. Code that does not look
 * and answers again, by `writeHead` or `end(body)` after the end, replaces the deferred response as a whole, instead of
 * mixing two.
 */
export function commitBeforeHeaders(binding: SessionBinding, res: ServerResponse): void {
  const overlaid: OverlaidResponse = res;
  const deferred = new DeferredResponse(binding, res);
  const isFirst = overlaid[DEFERRED] === undefined;
  if (isFirst) overlaid[DEFERRED] = deferred;
  // The same functions for all responses, so that they keep one shape; a second one needs its own.
  overlay(res, isFirst ? OVERLAY : overlayOf(() => deferred));
  deferred.begin(res.writeHead);
}

/** Where a response has what defers it. */
const DEFERRED = Symbol('holdfast deferred response');
type OverlaidResponse = ServerResponse & { [DEFERRED]?: DeferredResponse };

/** What is put over a response. */
interface Overlay extends Methods {
  readonly headersSent: PropertyDescriptor;
  readonly writableEnded: PropertyDescriptor;
}

/** For a response that has what defers it in `DEFERRED`. */
const OVERLAY = overlayOf(res => res[DEFERRED]!);

function overlayOf(deferredOf: (res: OverlaidResponse) => DeferredResponse): Overlay {
  const method = (name: Method) =>
    function (this: OverlaidResponse, ...args: unknown[]): unknown {
      return deferredOf(this).call(name, args);
    };
  const inherited = (res: OverlaidResponse, name: string) =>
    Reflect.get(Object.getPrototypeOf(res) as object, name, res) as boolean;
  return {
    writeHead: method('writeHead') as ServerResponse['writeHead'],
    write: method('write') as ServerResponse['write'],
    end: method('end') as ServerResponse['end'],
    flushHeaders: method('flushHeaders') as ServerResponse['flushHeaders'],
    on: function (this: OverlaidResponse, event: string, listener: () => void) {
      return deferredOf(this).listen(event, listener);
    } as ServerResponse['on'],
    headersSent: {
      configurable: true,
      get(this: OverlaidResponse) {
        return deferredOf(this).isCommitting || inherited(this, 'headersSent');
      },
    },
    writableEnded: {
      configurable: true,
      get(this: OverlaidResponse) {
        const deferred = deferredOf(this);
        return (deferred.isCommitting && deferred.hasEnded) || inherited(this, 'writableEnded');
      },
    },
  };
}

function overlay(res: ServerResponse, over: Overlay): void {
  res.writeHead = over.writeHead;
  res.write = over.write;
  res.end = over.end;
  res.flushHeaders = over.flushHeaders;
  res.on = over.on;
  Object.defineProperty(res, 'headersSent', over.headersSent);
  Object.defineProperty(res, 'writableEnded', over.writableEnded);
}
