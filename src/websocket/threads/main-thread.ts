import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { CallArgs, CallName, Calls } from './calls.ts';
import { type FromThread, Place, type Task, type ThreadStart, type ToThread } from './messages.ts';
import { packError, unpackError } from './packed-error.ts';

/** What the main thread tells a thread to do. */
export interface ThreadWork {
  load(module: string): void;
  run(id: number, task: Task): void;
  abort(id: number): void;
}

/** Runs here, on a value as it is stored. */
export type Change = (value: Uint8Array | undefined) => Uint8Array | undefined;

const TITLES: Partial<Record<CallName, string>> = { setData: 'data', setIdleTimeout: 'idleTimeoutMs', fetch: 'load' };

/** What messages call it: as handlers do. */
export function titleOf(name: CallName): string {
  return TITLES[name] ?? name;
}

interface Waiting extends PromiseWithResolvers<unknown> {
  readonly change: Change | undefined;
}

/** A thread's way to the main thread: calls that sleep until they are answered, and calls that do not. */
export class MainThread {
  readonly #port: MessagePort;
  readonly #shared: Int32Array;
  readonly #work: ThreadWork;
  readonly #waiting = new Map<number, Waiting>();
  /** Came while a call was waiting for its own answer. */
  #early: ToThread[] = [];
  #lastCall = 0;

  constructor({ port, shared }: ThreadStart, work: ThreadWork) {
    this.#port = port;
    this.#shared = shared;
    this.#work = work;
    port.on('message', (message: ToThread) => this.#onMessage(message));
  }

  /** From here on the task is this thread's: when it is lost, so is the task. */
  begin(task: number): void {
    Atomics.store(this.#shared, Place.begun, task);
  }

  tell(message: FromThread, transfer: ArrayBuffer[] = []): void {
    this.#port.postMessage(message, transfer);
  }

  /** Has the connection of this callback begun to close? Known also in the middle of a computation. */
  isAborted(task: number): boolean {
    return Atomics.load(this.#shared, Place.aborted) === task;
  }

  /** Has it done at once: this thread sleeps until then. @throws {Error} what the main thread threw. */
  now<N extends CallName>(task: number, name: N, args: CallArgs<N>, transfer?: ArrayBuffer[]): ReturnType<Calls[N]> {
    const call = this.#send(task, name, args, transfer);
    for (;;) {
      const seen = Atomics.load(this.#shared, Place.messages);
      const received = receiveMessageOnPort(this.#port);
      if (received === undefined) {
        Atomics.wait(this.#shared, Place.messages, seen);
        continue;
      }
      const message = received.message as ToThread;
      if (message.kind !== 'answer' || message.call !== call) {
        this.#early.push(message);
        if (this.#early.length === 1) queueMicrotask(() => this.#takeEarly());
      } else if (message.error) {
        throw unpackError(message.error);
      } else {
        return message.value as ReturnType<Calls[N]>;
      }
    }
  }

  /** @param change Called here when the main thread wants to know what it makes of a value. */
  later<N extends CallName>(
    task: number,
    name: N,
    args: CallArgs<N>,
    change: Change | undefined,
  ): Promise<Awaited<ReturnType<Calls[N]>>> {
    const call = this.#send(task, name, args);
    const waiting = { ...Promise.withResolvers<unknown>(), change };
    this.#waiting.set(call, waiting);
    return waiting.promise as Promise<Awaited<ReturnType<Calls[N]>>>;
  }

  #send(task: number, name: CallName, args: readonly unknown[], transfer?: ArrayBuffer[]): number {
    const call = ++this.#lastCall;
    try {
      this.tell({ kind: 'call', call, task, name, args }, transfer);
    } catch (cause) {
      if (!(cause instanceof DOMException)) throw cause;
      const message = `${titleOf(name)}: ${cause.message}; what goes to the main thread must be data that can be copied`;
      throw new TypeError(message, { cause });
    }
    return call;
  }

  #takeEarly(): void {
    const early = this.#early;
    this.#early = [];
    for (const message of early) this.#onMessage(message);
  }

  #onMessage(message: ToThread): void {
    switch (message.kind) {
      case 'load':
        return this.#work.load(message.module);
      case 'run':
        return this.#work.run(message.id, message.task);
      case 'abort':
        return this.#work.abort(message.id);
      case 'question':
        return this.#reply(message.question, () =>
          this.#waiting.get(message.call)?.change?.(message.value as Uint8Array),
        );
      case 'answer': {
        const waiting = this.#waiting.get(message.call);
        this.#waiting.delete(message.call);
        if (message.error) waiting?.reject(unpackError(message.error));
        else waiting?.resolve(message.value);
      }
    }
  }

  #reply(question: number, change: () => Uint8Array | undefined): void {
    try {
      this.tell({ kind: 'reply', question, value: change() });
    } catch (error) {
      this.tell({ kind: 'reply', question, error: packError(error) });
    }
  }
}
