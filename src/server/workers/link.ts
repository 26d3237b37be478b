import type { Serializable } from 'node:child_process';
import { systemClock } from '../../base/clock.ts';
import { type ErrorCode, HoldfastError, isHoldfastError } from '../../base/errors.ts';
import { messageOf } from '../../base/message-of.ts';

/** What goes over the channel between the supervisor and a worker, beside connections. */
export type LinkMessage =
  | { readonly kind: 'call'; readonly id: number; readonly method: string; readonly args: readonly unknown[] }
  | { readonly kind: 'result'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failure'; readonly id: number; readonly error: SentError }
  | { readonly kind: 'tell'; readonly method: string; readonly args: readonly unknown[] };

/** An error on its way to another process. */
interface SentError {
  readonly code: string;
  readonly message: string;
  readonly status?: number | undefined;
}

/** What the other side may call. */
export type LinkMethods = Readonly<Record<string, (...args: never[]) => unknown>>;

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/**
 * Calls between the supervisor and one worker. Errors keep their code and status. The other side is our own program:
 * what it sends is not checked.
 */
export class Link {
  readonly #send: (message: Serializable) => void;
  readonly #methods: LinkMethods;
  readonly #waiting = new Map<number, Waiting>();
  #count = 0;
  #end: Error | undefined;

  /** @param send Of the channel. What it cannot send any more is nobody's. */
  constructor(send: (message: Serializable) => void, methods: LinkMethods) {
    this.#send = send;
    this.#methods = methods;
  }

  /**
   * @param limitMs How long the answer may take. Default: until the other side ends.
   * @throws {HoldfastError} what the other side threw; ERR_ADMIN_BUSY when it does not answer in time; ERR_SERVER_STATE
   * when it ends before.
   */
  call<T>(method: string, args: readonly unknown[] = [], limitMs?: number): Promise<T> {
    if (this.#end) return Promise.reject(this.#end);
    const id = ++this.#count;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject });
    this.#send({ kind: 'call', id, method, args });
    const timer =
      limitMs === undefined
        ? undefined
        : systemClock.setTimeout(() => {
            const message = `a worker process did not answer within ${limitMs / 1_000} s; try again`;
            reject(new HoldfastError('ERR_ADMIN_BUSY', message, { status: 503 }));
          }, limitMs);
    return promise.finally(() => {
      this.#waiting.delete(id);
      systemClock.clearTimeout(timer);
    }) as Promise<T>;
  }

  /** The same without an answer. */
  tell(method: string, ...args: readonly unknown[]): void {
    if (!this.#end) this.#send({ kind: 'tell', method, args });
  }

  receive(message: LinkMessage): void {
    if (message.kind === 'call') void this.#answer(message);
    else if (message.kind === 'tell') void this.#methods[message.method]?.(...(message.args as never[]));
    else if (message.kind === 'result') this.#waiting.get(message.id)?.resolve(message.value);
    else this.#waiting.get(message.id)?.reject(received(message.error));
  }

  /** The other side has ended: nothing is answered any more. */
  end(reason: HoldfastError): void {
    this.#end ??= reason;
    for (const { reject } of this.#waiting.values()) reject(reason);
  }

  async #answer({ id, method, args }: Extract<LinkMessage, { kind: 'call' }>): Promise<void> {
    let answer: LinkMessage;
    try {
      answer = { kind: 'result', id, value: await this.#methods[method]!(...(args as never[])) };
    } catch (error) {
      answer = { kind: 'failure', id, error: sent(error) };
    }
    if (!this.#end) this.#send(answer as Serializable);
  }
}

export function sent(error: unknown): SentError {
  const { code = 'ERR_SERVER_FAILED', status } = isHoldfastError(error) ? error : {};
  return { code, message: messageOf(error), status };
}

export function received({ code, message, status }: SentError): HoldfastError {
  return new HoldfastError(code as ErrorCode, message, status === undefined ? {} : { status });
}
