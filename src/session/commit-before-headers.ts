import type { IncomingMessage, OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { isDocumentNavigation } from '../http/navigation.ts';
import type { SessionBinding } from './binding.ts';
import type { SessionManager } from './manager.ts';
import { isSessionEnded } from './session-state.ts';

const RETRY_AFTER_S = 5;

type Method = 'writeHead' | 'write' | 'end' | 'flushHeaders';

/**
 * Gives a plain `node:http` request its session: `manager.get(req)` and `manager.open(req)` work from here on, and what a handler
 * changes is in the store before the client sees the response (see `commitBeforeHeaders`). Call it before the handler.
 *
 * @param options.isSecure Default: whether the connection itself is TLS. Behind a proxy that ends TLS, say what the client speaks.
 */
export function attachSession(
  manager: SessionManager,
  req: IncomingMessage,
  res: ServerResponse,
  options: { readonly isSecure?: boolean } = {},
): SessionBinding {
  const binding = manager.bind({
    cookieHeader: req.headers.cookie,
    isSecure: options.isSecure ?? (req.socket as Partial<TLSSocket>).encrypted === true,
    isDocumentNavigation: isDocumentNavigation(req),
  });
  manager.bindTo(req, binding);
  commitBeforeHeaders(binding, res);
  return binding;
}

/**
 * Holds a response back until what the handler changed in its session is committed: a client that follows a redirect finds its data,
 * and a commit that fails can still be answered with 503.
 *
 * The first of `writeHead`, `write`, `end` and `flushHeaders` starts the commit; they are queued until it is done, and status and headers can be
 * changed so long. `write` returns false meanwhile and `drain` follows. Informational responses (1xx) pass. Without a change nothing is held
 * back. What is set after the headers is committed before the response ends; when that fails the connection is cut, because it
 * is too late for a status.
 */
export function commitBeforeHeaders(binding: SessionBinding, res: ServerResponse): void {
  new HeldResponse(binding, res).install();
}

/**
 * `open`: nothing is sent yet. `holding`: calls are queued until the commit is done. `sent`: the headers are out. `failed`: answered with 503,
 * what the handler still writes goes nowhere.
 */
type Phase = 'open' | 'holding' | 'sent' | 'failed';

class HeldResponse {
  readonly #binding: SessionBinding;
  readonly #res: ServerResponse;
  /** The methods as they were, which may be somebody else's wrappers. */
  readonly #original: Pick<ServerResponse, Method>;
  readonly #queue: { readonly method: Method; readonly args: readonly unknown[] }[] = [];
  #phase: Phase = 'open';
  #hasHead = false;
  #owesDrain = false;

  constructor(binding: SessionBinding, res: ServerResponse) {
    this.#binding = binding;
    this.#res = res;
    const { writeHead, write, end, flushHeaders } = res;
    this.#original = { writeHead, write, end, flushHeaders };
  }

  install(): void {
    const res = this.#res;
    if (res.headersSent) {
      this.#phase = 'sent';
      this.#binding.markHeadersSent();
    }
    res.writeHead = ((...args: unknown[]) => this.#call('writeHead', args)) as typeof res.writeHead;
    res.write = ((...args: unknown[]) => this.#call('write', args)) as typeof res.write;
    res.end = ((...args: unknown[]) => this.#call('end', args)) as typeof res.end;
    res.flushHeaders = () => void this.#call('flushHeaders', []);
  }

  #call(method: Method, args: unknown[]): unknown {
    if (method === 'end') this.#binding.release(); // what is changed after the end could not be committed before it
    switch (this.#phase) {
      case 'open':
        if (!this.#binding.hasNews) {
          this.#markSent();
          return this.#pass(method, args);
        }
        this.#hold(method, args);
        void this.#commitThenSend();
        return this.#answer(method);
      case 'holding':
        this.#hold(method, args);
        return this.#answer(method);
      case 'sent':
        if (method !== 'end' || !this.#binding.isDirty) return this.#pass(method, args);
        void this.#commitThenEnd(args);
        return this.#res;
      case 'failed':
        return this.#discard(method, args);
    }
  }

  #pass(method: Method, args: readonly unknown[]): unknown {
    return Reflect.apply(this.#original[method], this.#res, args);
  }

  #hold(method: Method, args: unknown[]): void {
    if (method === 'writeHead') applyHead(this.#res, args);
    else this.#queue.push({ method, args });
    this.#hasHead ||= method === 'writeHead';
    this.#owesDrain ||= method === 'write';
    this.#phase = 'holding';
  }

  #answer(method: Method): unknown {
    return method === 'write' ? false : this.#res;
  }

  async #commitThenSend(): Promise<void> {
    try {
      await this.#commit();
    } catch (error) {
      this.#refuse(error as Error);
      return;
    }
    try {
      this.#send();
    } catch (error) {
      // What the handler asked for cannot be sent (a status out of range, a header that is not one), and it is past the point of hearing so.
      this.#binding.logger.error({ err: error }, 'response could not be sent after its session was committed');
      this.#res.destroy(error as Error);
    }
  }

  async #commit(): Promise<void> {
    try {
      await this.#binding.commit();
    } catch (error) {
      // Ended by somebody else meanwhile (a logout in another tab): there is nothing left to write, and the response is still the handler's.
      if (!isSessionEnded(error)) throw error;
    }
  }

  #send(): void {
    const res = this.#res;
    const cookies = this.#binding.setCookies();
    if (cookies.length > 0) {
      res.appendHeader('Set-Cookie', cookies);
      // A shared cache must not give one client's cookie to another.
      if (!/\bno-store\b/i.test(String(res.getHeader('Cache-Control'))))
        res.setHeader('Cache-Control', 'private, no-cache');
    }
    this.#markSent();
    if (this.#hasHead) this.#pass('writeHead', [res.statusCode]);
    let isWritable = true;
    for (const { method, args } of this.#queue.splice(0)) {
      const result = this.#pass(method, args);
      if (method === 'write') isWritable = result === true;
    }
    // When the last write was false the response emits drain by itself.
    if (this.#owesDrain && isWritable && !res.writableEnded) res.emit('drain');
  }

  #markSent(): void {
    this.#phase = 'sent';
    this.#binding.markHeadersSent();
  }

  #refuse(error: Error): void {
    const res = this.#res;
    this.#phase = 'failed';
    this.#binding.markHeadersSent();
    this.#binding.logger.error({ err: error }, 'session could not be committed; answering 503');
    for (const name of res.getHeaderNames()) res.removeHeader(name);
    const body = 'The session could not be saved. Please try again.\n';
    const head = {
      'Content-Type': 'text/plain; charset=utf-8',
      'Content-Length': Buffer.byteLength(body),
      'Cache-Control': 'no-store',
      'Retry-After': RETRY_AFTER_S,
    };
    this.#pass('writeHead', [503, 'Service Unavailable', head]);
    this.#pass('flushHeaders', []);
    this.#pass('write', [body]);
    // The client has the whole answer. The response ends when the handler ends it: ended now, it would leave a source half piped in.
    for (const { method, args } of this.#queue.splice(0)) this.#discard(method, args);
    if (this.#owesDrain && !res.writableEnded) res.emit('drain');
  }

  #discard(method: Method, args: readonly unknown[]): unknown {
    const last = args.at(-1);
    const callback = typeof last === 'function' ? [last] : [];
    if (method === 'end') return this.#pass('end', callback);
    if (method !== 'write') return this.#res;
    for (const tell of callback) process.nextTick(tell as () => void);
    return true;
  }

  async #commitThenEnd(args: unknown[]): Promise<void> {
    this.#phase = 'holding';
    try {
      await this.#commit();
      this.#phase = 'sent';
      this.#pass('end', args);
      for (const { method, args } of this.#queue.splice(0)) this.#pass(method, args);
    } catch (error) {
      this.#binding.logger.error(
        { err: error },
        'session could not be committed after the response had begun; cutting it off',
      );
      this.#phase = 'failed';
      this.#res.destroy(error as Error);
    }
  }
}

/**
 * Puts status and headers of a `writeHead` call on the response, where they stay editable.
 *
 * Headers given as an array, flat or in pairs, may name one several times.
 */
function applyHead(res: ServerResponse, args: readonly unknown[]): void {
  const [status, second, third] = args as [number, unknown, unknown];
  if (!(status >= 100 && status <= 999)) throw new RangeError(`invalid status code: ${status}`);
  const headers = (typeof second === 'string' ? third : (second ?? third)) ?? {};
  res.statusCode = status;
  if (typeof second === 'string') res.statusMessage = second;
  if (Array.isArray(headers)) return applyPairs(res, headers);
  for (const [name, value] of Object.entries(headers as OutgoingHttpHeaders))
    if (value !== undefined) res.setHeader(name, value);
}

function applyPairs(res: ServerResponse, headers: readonly unknown[]): void {
  const flat = (Array.isArray(headers[0]) ? headers.flat(1) : headers) as (string | OutgoingHttpHeader)[];
  for (let index = 0; index < flat.length; index += 2) res.removeHeader(String(flat[index]));
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const value = flat[index + 1]!;
    res.appendHeader(String(flat[index]), typeof value === 'number' ? String(value) : value);
  }
}
