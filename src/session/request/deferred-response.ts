import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { systemClock } from '../../base/clock.ts';
import type { Refusal } from '../../http/refusal.ts';
import type { SessionBinding } from './binding.ts';
import { ResponseCommit } from './response-commit.ts';

/** Milliseconds that a handler whose response was refused has to end it by itself. */
const REFUSED_END_GRACE_MS = 250;

export type Method = 'writeHead' | 'write' | 'end' | 'flushHeaders';

/**
 * `open`: nothing is sent yet. `committing`: calls are queued until the commit is done. `sent`: the headers are out.
 * `failed`: answered with 503 or 409, what the handler still writes goes nowhere.
 */
type Phase = 'open' | 'committing' | 'sent' | 'failed';

interface Call {
  readonly method: Method;
  readonly args: readonly unknown[];
}

export type Methods = Pick<ServerResponse, Method | 'on'>;

const NOTHING: readonly Call[] = [];

/** A response whose calls are queued from the first one until its session is committed. */
export class DeferredResponse {
  readonly #binding: SessionBinding;
  readonly #commit: ResponseCommit;
  readonly #res: ServerResponse;
  /** The methods as they were, which may be somebody else's wrappers. */
  readonly #original: Methods;
  #queue: Call[] | undefined;
  #phase: Phase = 'open';
  #hasHead = false;
  /**
   * Who has put a `writeHead` over ours is asked for the head when the response begins, as `node:http` does, and not
   * again when it leaves.
   */
  #isTellingHead = false;
  #writeHead!: ServerResponse['writeHead'];
  /** `end` was called, and not taken back by a response in its place. */
  #isEnded = false;
  #owesDrain = false;
  /**
   * Who waits for drain. Middleware that compresses takes such listeners to its own stream, where an event of the
   * response does not reach them.
   */
  #drainListeners: (() => void)[] | undefined;
  /** Headers that describe the response that is deferred: they go with it when another one takes its place. */
  #describing: Map<string, unknown> | undefined;

  constructor(binding: SessionBinding, res: ServerResponse) {
    this.#binding = binding;
    this.#res = res;
    this.#commit = new ResponseCommit(binding, res);
    if (res.headersSent) this.#markSent();
    const { writeHead, write, end, flushHeaders, on } = res;
    this.#original = { writeHead, write, end, flushHeaders, on };
  }

  /**
   * True from the first call of the handler until the commit is done; not while middleware is asked for the head, to
   * which it may add: Next.js sets no header where `headersSent` is true.
   */
  get isCommitting(): boolean {
    return this.#phase === 'committing' && !this.#isTellingHead && !this.#res.destroyed;
  }

  get hasEnded(): boolean {
    return this.#isEnded;
  }

  /** @param writeHead What was put over that of the response. */
  begin(writeHead: ServerResponse['writeHead']): void {
    this.#writeHead = writeHead;
  }

  /** Somebody listens to the response. */
  listen(event: string, listener: () => void): ServerResponse {
    if (event === 'drain' && this.#phase === 'committing') (this.#drainListeners ??= []).push(listener);
    return Reflect.apply(this.#original.on, this.#res, [event, listener]);
  }

  /** Somebody calls a method of the response. */
  call(method: Method, args: unknown[]): unknown {
    if (method === 'end') this.#binding.release(); // what is changed after the end could not be committed before it
    switch (this.#phase) {
      case 'open':
        if (!this.#commit.isDue) {
          // What a head says would stand over what makes it private.
          const isHead = method === 'writeHead' && this.#binding.mayTellByLinks;
          if (isHead) applyHead(this.#res, args);
          this.#markSent();
          return this.#pass(method, isHead ? [this.#res.statusCode] : args);
        }
        this.#phase = 'committing';
        try {
          if (method !== 'writeHead') this.#tellHead();
          this.#defer(method, args);
        } catch (error) {
          this.#phase = 'open'; // nothing of it is deferred
          throw error;
        }
        void this.#commitThenSend();
        return this.#answer(method);
      case 'committing':
        this.#defer(method, args);
        return this.#answer(method);
      case 'sent': {
        const committing = method === 'end' ? this.#commit.beforeEnd() : undefined;
        if (!committing) return this.#pass(method, args);
        void this.#endAfter(committing, args);
        return this.#res;
      }
      case 'failed':
        return this.#discard(method, args);
    }
  }

  #pass(method: Method, args: readonly unknown[]): unknown {
    return Reflect.apply(this.#original[method], this.#res, args);
  }

  /** The head that no `writeHead` has given: middleware that listens for it decides now what it does with the body. */
  #tellHead(): void {
    const res = this.#res;
    if (res.writeHead === this.#writeHead) return;
    this.#isTellingHead = true;
    try {
      res.writeHead(res.statusCode);
    } finally {
      this.#isTellingHead = false;
    }
  }

  #defer(method: Method, args: unknown[]): void {
    if (method === 'writeHead') return this.#deferHead(args);
    if (method === 'end') {
      if (this.#isEnded && !hasBody(args)) return tell(args); // to end twice does no harm without us either
      if (this.#isEnded) this.#startOver();
      this.#isEnded = true;
      if (this.#res.hasHeader('content-length')) (this.#describing ??= new Map()).set('content-length', undefined);
      for (const name of this.#describing?.keys() ?? []) this.#describing!.set(name, this.#res.getHeader(name));
    }
    this.#owesDrain ||= method === 'write';
    (this.#queue ??= []).push({ method, args });
  }

  #deferHead(args: unknown[]): void {
    // Wrappers that compress say this again before each write, because the header is not there yet.
    const isImplicit = this.#hasHead && args.length === 1 && args[0] === this.#res.statusCode;
    if (isImplicit) return;
    if (this.#isEnded) this.#startOver();
    else if (this.#queue?.some(({ method }) => method === 'write')) throw headersSentAlready();
    this.#describing ??= new Map();
    for (const name of applyHead(this.#res, args)) this.#describing.set(name.toLowerCase(), undefined);
    // Without a head of the handler's own, `end(body)` still announces the length.
    this.#hasHead ||= !this.#isTellingHead;
  }

  /**
   * Drops the response that is deferred, for another one to take its place. What was changed since its end belongs to the
   * other one.
   */
  #startOver(): void {
    const res = this.#res;
    const dropped = this.#takeQueue();
    this.#isEnded = false;
    this.#hasHead = false;
    for (const [name, value] of this.#describing ?? []) if (res.getHeader(name) === value) res.removeHeader(name);
    this.#describing = undefined;
    for (const { args } of dropped) tell(args);
  }

  #answer(method: Method): unknown {
    return method === 'write' ? false : this.#res;
  }

  async #commitThenSend(): Promise<void> {
    const refusal = await this.#commit.commit();
    if (refusal) return this.#refuse(refusal);
    try {
      this.#send();
    } catch (error) {
      // What the handler asked for cannot be sent (a status out of range, a header that is not one), and it is past the
      // point of hearing so.
      this.#binding.logger.error({ err: error }, 'response could not be sent after its session was committed');
      this.#commit.withdraw();
      this.#res.destroy(error as Error);
    }
  }

  #send(): void {
    const res = this.#res;
    this.#markSent();
    // While it leaves, whoever has put a `writeHead` over ours is not asked again.
    const { writeHead } = res;
    if (writeHead !== this.#writeHead) res.writeHead = this.#writeHead;
    if (this.#hasHead) this.#pass('writeHead', [res.statusCode]);
    let isWritable = true;
    for (const { method, args } of this.#takeQueue()) {
      const result = this.#pass(method, args);
      if (method === 'write') isWritable = result === true;
    }
    if (writeHead !== this.#writeHead) res.writeHead = writeHead;
    // When the last write was false the response emits drain by itself.
    if (this.#owesDrain && isWritable && !res.writableEnded) this.#emitDrain();
  }

  #emitDrain(): void {
    const res = this.#res;
    const reached = res.rawListeners('drain');
    for (const listener of this.#drainListeners ?? [])
      if (!reached.includes(listener)) Reflect.apply(listener, res, []);
    res.emit('drain');
  }

  #markSent(): void {
    this.#phase = 'sent';
    this.#commit.tell();
  }

  #takeQueue(): readonly Call[] {
    const queue = this.#queue ?? NOTHING;
    this.#queue = undefined;
    return queue;
  }

  #refuse({ status, headers, body = '' }: Refusal): void {
    const res = this.#res;
    this.#phase = 'failed';
    for (const name of res.getHeaderNames()) res.removeHeader(name);
    res.setHeader('Content-Type', 'text/plain; charset=utf-8');
    res.setHeader('Content-Length', Buffer.byteLength(body));
    for (const [name, value] of Object.entries(headers ?? {})) res.setHeader(name, value);
    res.statusCode = status;
    if (res.req.httpVersionMajor < 2) res.statusMessage = ''; // HTTP/2 has none
    this.#pass('writeHead', [status]);
    this.#pass('flushHeaders', []);
    this.#pass('write', [body]);
    // The client has the whole answer. The handler ends the response: ended now, it would leave a source half piped in.
    // But a source that goes on for ever, as server-sent events do, must not keep the next request of this connection
    // waiting.
    for (const { method, args } of this.#takeQueue()) this.#discard(method, args);
    if (res.writableEnded) return;
    if (this.#owesDrain) this.#emitDrain();
    systemClock.setTimeout(() => this.#discard('end', []), REFUSED_END_GRACE_MS);
  }

  #discard(method: Method, args: readonly unknown[]): unknown {
    if (method === 'end' && !this.#res.writableEnded) {
      const last = args.at(-1);
      return this.#pass('end', typeof last === 'function' ? [last] : []);
    }
    tell(args);
    return method === 'write' ? true : this.#res;
  }

  async #endAfter(committing: Promise<unknown>, args: unknown[]): Promise<void> {
    this.#phase = 'committing';
    this.#isEnded = true;
    await committing;
    this.#phase = this.#res.destroyed ? 'failed' : 'sent';
    if (this.#phase === 'failed') return;
    this.#pass('end', args);
    for (const { method, args } of this.#takeQueue()) this.#pass(method, args);
  }
}

function hasBody(args: readonly unknown[]): boolean {
  return args[0] !== undefined && args[0] !== null && typeof args[0] !== 'function';
}

/** Calls back for a write or end that will not happen. */
function tell(args: readonly unknown[]): void {
  const last = args.at(-1);
  if (typeof last === 'function') process.nextTick(last as () => void);
}

/** What `node:http` throws in the same place: frameworks know it by its code. */
function headersSentAlready(): Error {
  const error = new Error(
    'writeHead was called after the body had begun; set status and headers before the first write',
  );
  return Object.assign(error, { code: 'ERR_HTTP_HEADERS_SENT' });
}

/**
 * Puts status and headers of a `writeHead` call on the response, where they stay editable. Returns the names of the
 * headers.
 *
 * Headers given as an array, flat or in pairs, may name one several times.
 */
function applyHead(res: ServerResponse, args: readonly unknown[]): string[] {
  const [status, second, third] = args as [number, unknown, unknown];
  if (!(status >= 100 && status <= 999)) throw new RangeError(`invalid status code: ${status}`);
  const headers = (typeof second === 'string' ? third : (second ?? third)) ?? {};
  res.statusCode = status;
  if (typeof second === 'string') res.statusMessage = second;
  if (Array.isArray(headers)) return applyPairs(res, headers);
  const given = Object.entries(headers as OutgoingHttpHeaders);
  for (const [name, value] of given) if (value !== undefined) res.setHeader(name, value);
  return given.map(([name]) => name);
}

function applyPairs(res: ServerResponse, headers: readonly unknown[]): string[] {
  const flat = (Array.isArray(headers[0]) ? headers.flat(1) : headers) as (string | OutgoingHttpHeader)[];
  const names: string[] = [];
  for (let index = 0; index < flat.length; index += 2) names.push(String(flat[index]));
  for (const name of names) res.removeHeader(name);
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const value = flat[index + 1]!;
    res.appendHeader(String(flat[index]), typeof value === 'number' ? String(value) : value);
  }
  return names;
}
