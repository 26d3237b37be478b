import { extname } from 'node:path';
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { HoldfastError, toError } from '../../base/errors.ts';
import { CALLS, type Caller, type CallName } from './calls.ts';
import {
  type FromThread,
  type ModuleExports,
  PLACES,
  Place,
  type Task,
  type ThreadStart,
  type ToThread,
} from './messages.ts';
import { packError, unpackError } from './packed-error.ts';

/** As the sources run, or as they were built. */
const ENTRY = new URL(`./callback-thread${extname(import.meta.filename)}`, import.meta.url);
/** As text: a process that was given its program as text, with `--input-type`, starts no thread from a file. */
const PROGRAM = `import(${JSON.stringify(ENTRY.href)})`;

/** One callback, and where its calls and its end go. */
export interface ThreadTask extends Pick<Caller, 'connection'> {
  readonly task: Omit<Task, 'isAborted'>;
  /** A thread has taken it. */
  onTaken(): void;
  /** It has settled; with the error that it threw, or that took its thread away. */
  onSettled(error: Error | undefined): void;
}

interface Running {
  readonly id: number;
  readonly task: ThreadTask;
  readonly known: Map<string, Uint8Array>;
  /** Questions to functions of the thread that it has not answered. */
  readonly asked: Map<number, PromiseWithResolvers<Uint8Array | undefined>>;
}

/** Who learns what becomes of a thread. */
export interface ThreadOwner {
  /** It loads a file of the application, which holds this; undefined: it cannot be read. */
  onImported(path: string, digest: string | undefined): void;
  /** It has settled a callback and can take the next one. */
  onFree(thread: WorkerThread): void;
  /** It has ended before it began this callback, which any other can run. */
  onNotBegun(task: ThreadTask): void;
  /** It is gone, whoever ended it; `error` says why. The callback that it ran has been settled. */
  onEnded(thread: WorkerThread, error: Error): void;
}

/** As a number that fits into shared memory, also after years. */
const MAX_ID = 0x7fff_ffff;
let lastId = 0;
const nextId = () => (lastId = (lastId % MAX_ID) + 1);

/**
 * A thread that runs callbacks of connections, one at a time, and answers what they ask of their connection. Nothing
 * that happens in it, and no way of its end, throws here.
 */
export class WorkerThread {
  /** It has settled a callback since it has begun. */
  hasProved = false;
  readonly #owner: ThreadOwner;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #shared: Int32Array;
  readonly #loading = new Map<string, PromiseWithResolvers<ModuleExports>>();
  readonly #exited = Promise.withResolvers<void>();
  #running: Running | undefined;
  #error: Error | undefined;
  #isEnding = false;
  #hasEnded = false;

  /**
   * @param memoryMiB Of its heap; undefined: as Node has it.
   * @throws {Error} when the operating system gives no thread.
   */
  constructor(owner: ThreadOwner, memoryMiB: number | undefined) {
    this.#owner = owner;
    const { port1, port2 } = new MessageChannel();
    this.#shared = new Int32Array(new SharedArrayBuffer(PLACES * Int32Array.BYTES_PER_ELEMENT));
    this.#worker = new Worker(PROGRAM, {
      eval: true,
      name: 'holdfast',
      ...(memoryMiB !== undefined && { resourceLimits: { maxOldGenerationSizeMb: memoryMiB } }),
    });
    this.#port = port1;
    const start: ThreadStart = { port: port2, shared: this.#shared };
    this.#worker.postMessage(start, [port2]);
    port1.on('message', (message: FromThread) => this.#onMessage(message));
    this.#worker.on('error', (error: unknown) => {
      this.#error = toError(error);
    });
    this.#worker.on('exit', code => this.#onExit(code));
  }

  get isFree(): boolean {
    return this.#running === undefined && this.#loading.size === 0 && !this.#isEnding;
  }

  /** It runs a callback, and is not being ended for it. */
  get isAtWork(): boolean {
    return this.#running !== undefined && !this.#isEnding;
  }

  /** Loads a module. @returns what it exports. @throws {Error} what loading it threw. */
  async load(module: string): Promise<ModuleExports> {
    const underWay = this.#loading.get(module);
    if (underWay) return underWay.promise;
    const loaded = Promise.withResolvers<ModuleExports>();
    this.#loading.set(module, loaded);
    // A server that starts waits for it: the process must not end meanwhile.
    this.#worker.ref();
    this.#port.ref();
    this.#tell({ kind: 'load', module });
    try {
      return await loaded.promise;
    } finally {
      this.#loading.delete(module);
      if (this.#loading.size === 0 && !this.#isEnding) {
        this.#worker.unref();
        this.#port.unref();
        if (this.isFree) this.#owner.onFree(this);
      }
    }
  }

  /** Runs a callback; only when it is free. */
  run(task: ThreadTask): void {
    const id = nextId();
    this.#running = { id, task, known: new Map(), asked: new Map() };
    task.onTaken();
    try {
      this.#tell({ kind: 'run', id, task: { ...task.task, isAborted: !task.connection.isOpen } });
    } catch (error) {
      this.#settle(toError(error));
    }
  }

  /** True while it runs this one. */
  isRunning(task: ThreadTask): boolean {
    return this.#running?.task === task;
  }

  /** The connection of the callback has begun to close. */
  abort(): void {
    if (!this.#running) return;
    Atomics.store(this.#shared, Place.aborted, this.#running.id);
    this.#tell({ kind: 'abort', id: this.#running.id });
  }

  /** The process does not end before it. */
  hold(): void {
    this.#worker.ref();
  }

  /** Ends the thread, whatever it does. Resolves when it is gone. */
  async end(error: Error): Promise<void> {
    this.#error ??= error;
    this.#isEnding = true;
    // Somebody waits for its end.
    this.hold();
    void this.#worker.terminate();
    await this.#exited.promise;
  }

  #onMessage(message: FromThread): void {
    switch (message.kind) {
      case 'imported':
        return this.#owner.onImported(message.path, message.digest);
      case 'loaded':
        return this.#loading.get(message.module)?.resolve(message.exports);
      case 'not-loaded':
        return this.#loading.get(message.module)?.reject(unpackError(message.error));
      case 'call':
        return void this.#onCall(message.call, message.task, message.name as CallName, message.args);
      case 'reply': {
        const asked = this.#running?.asked.get(message.question);
        this.#running?.asked.delete(message.question);
        if (message.error) asked?.reject(unpackError(message.error));
        else asked?.resolve(message.value as Uint8Array | undefined);
        return;
      }
      case 'done':
        if (this.#running?.id === message.id) this.#settle(message.error && unpackError(message.error));
    }
  }

  /** Whatever waits for the answer in the thread sleeps until then, so what needs no promise is answered at once. */
  #onCall(call: number, task: number, name: CallName, args: readonly unknown[]): void {
    const running = this.#running;
    try {
      if (running?.id !== task) throw new TypeError(`${name}: its callback has ended`);
      const caller: Caller = {
        connection: running.task.connection,
        known: running.known,
        ask: value => this.#ask(running, call, value),
      };
      const result = (CALLS[name] as (caller: Caller, ...args: readonly unknown[]) => unknown)(caller, ...args);
      if (!(result instanceof Promise)) return this.#answer(call, result);
      result.then(
        value => this.#answer(call, value),
        error => this.#refuse(call, error),
      );
    } catch (error) {
      this.#refuse(call, error);
    }
  }

  #ask(running: Running, call: number, value: Uint8Array | undefined): Promise<Uint8Array | undefined> {
    if (this.#running !== running) return Promise.reject(new TypeError('update: its callback has ended'));
    const question = nextId();
    const asked = Promise.withResolvers<Uint8Array | undefined>();
    running.asked.set(question, asked);
    this.#tell({ kind: 'question', call, question, value });
    return asked.promise;
  }

  #answer(call: number, value: unknown): void {
    try {
      this.#tell({ kind: 'answer', call, value });
    } catch (cause) {
      const message = `this cannot be copied to another thread: ${toError(cause).message}`;
      this.#refuse(call, new TypeError(message, { cause }));
    }
  }

  #refuse(call: number, error: unknown): void {
    this.#tell({ kind: 'answer', call, error: packError(error) });
  }

  #tell(message: ToThread): void {
    this.#port.postMessage(message);
    Atomics.add(this.#shared, Place.messages, 1);
    Atomics.notify(this.#shared, Place.messages);
  }

  #settle(error: Error | undefined): void {
    const running = this.#running;
    if (!running) return;
    this.#running = undefined;
    for (const asked of running.asked.values()) asked.reject(error ?? new TypeError('update: its callback has ended'));
    this.hasProved ||= !this.#hasEnded;
    running.task.onSettled(error);
    if (this.isFree) this.#owner.onFree(this);
  }

  #onExit(code: number): void {
    // Also one that ends by itself takes no more.
    this.#isEnding = true;
    // What it said before its end counts.
    for (let last = receiveMessageOnPort(this.#port); last; last = receiveMessageOnPort(this.#port))
      this.#onMessage(last.message);
    this.#hasEnded = true;
    this.#port.close();
    const cause = this.#error ?? new Error(`a thread of handlers has ended with exit code ${code}`);
    const error = lost(cause);
    for (const loaded of this.#loading.values()) loaded.reject(cause);
    const running = this.#running;
    if (running && Atomics.load(this.#shared, Place.begun) !== running.id) {
      this.#running = undefined;
      this.#owner.onNotBegun(running.task);
    }
    this.#settle(error);
    this.#owner.onEnded(this, cause);
    this.#exited.resolve();
  }
}

function lost(cause: Error): HoldfastError {
  return new HoldfastError('ERR_WS_THREAD_LOST', `the thread that ran the callback has ended: ${cause.message}`, {
    cause,
  });
}
