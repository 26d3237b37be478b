import { isAbsolute } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { HoldfastError, toError } from '../../base/errors.ts';
import { nearestName } from '../../base/nearest-name.ts';
import { kindOf } from '../../base/options.ts';
import { loadFailure } from '../../drivers/application-files.ts';
import { encodedSession } from '../../session/record/encoded-session.ts';
import type { CallbackKind } from '../callback-queue.ts';
import type { CalledConnection } from './calls.ts';
import { type ConnectionInThread, type ModuleExports, THREAD_CALLBACKS, type ThreadCallback } from './messages.ts';
import { packError } from './packed-error.ts';
import type { GivenTask, ThreadPool, ThreadServices } from './thread-pool.ts';

const CALLBACK_OF: Readonly<Record<CallbackKind, ThreadCallback>> = {
  open: 'onOpen',
  message: 'onMessage',
  fragment: 'onFragment',
  ping: 'onPing',
  pong: 'onPong',
  'auth-expiring': 'onAuthExpiring',
  timeout: 'onTimeout',
  error: 'onError',
  close: 'onClose',
};

/** What belongs into the definition: it runs once, or before there is a connection. */
const OF_THE_DEFINITION = ['accept', 'init', 'destroy'];

/**
 * The module of the option `handlers`, as a `file:` URL.
 * @throws {TypeError} when it is not the place of a file.
 */
export function moduleUrl(handlers: string | URL): string {
  const remedy = "write for example new URL('./handlers.ts', import.meta.url)";
  if (typeof handlers !== 'string' && !(handlers instanceof URL))
    throw new TypeError(`defineEndpoint: "handlers" is the URL of a module, not ${kindOf(handlers)}; ${remedy}`);
  if (typeof handlers === 'string' && isAbsolute(handlers)) return pathToFileURL(handlers).href;
  const url = URL.parse(String(handlers));
  if (url?.protocol === 'file:') return url.href;
  throw new TypeError(
    `defineEndpoint: "handlers" is a file: URL or an absolute path, not ${JSON.stringify(String(handlers))}; ${remedy}`,
  );
}

/** The callbacks of an endpoint that run in threads: those that a module exports. */
export class ThreadedCallbacks {
  readonly #module: string;
  readonly #pool: ThreadPool;
  readonly #callbacks: ReadonlySet<string>;
  /** By connection: each runs one at a time. */
  readonly #running = new Map<object, GivenTask>();
  #onEmpty = () => {};

  private constructor(module: string, pool: ThreadPool, callbacks: ReadonlySet<string>) {
    this.#module = module;
    this.#pool = pool;
    this.#callbacks = callbacks;
  }

  /**
   * Loads the module in the threads of the pool.
   *
   * @param endpoint What messages call the endpoint.
   * @param options Its definition, which has no callback that the module has.
   * @throws {HoldfastError} ERR_CONFIG_INVALID when the module cannot be loaded, or exports something else than
   * callbacks.
   */
  static async open(
    endpoint: string,
    module: string,
    options: object,
    pool: ThreadPool,
    services: ThreadServices,
  ): Promise<ThreadedCallbacks> {
    const what = `endpoint ${endpoint}: the handlers of ${fileURLToPath(module)}`;
    let exported: ModuleExports;
    try {
      exported = await pool.open(module, services);
    } catch (error) {
      const cause = toError(error);
      throw new HoldfastError('ERR_CONFIG_INVALID', `${what} cannot be loaded: ${reasonOf(cause, module)}`, { cause });
    }
    const fault = faultOf(exported, options);
    if (fault === undefined) return new ThreadedCallbacks(module, pool, new Set(exported.map(([name]) => name)));
    await pool.close(module);
    throw new HoldfastError('ERR_CONFIG_INVALID', `${what}: ${fault}`);
  }

  isIn(pool: ThreadPool): boolean {
    return pool === this.#pool;
  }

  has(kind: CallbackKind): boolean {
    return this.#callbacks.has(CALLBACK_OF[kind]);
  }

  /** Resolves when the callback has settled in its thread. */
  run(connection: CalledConnection, kind: CallbackKind, value: unknown, extra: unknown): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let given: GivenTask | undefined;
    let hasSettled = false;
    given = this.#pool.run({
      connection,
      task: {
        module: this.#module,
        callback: CALLBACK_OF[kind],
        connection: factsOf(connection),
        // The bytes are valid until this returns.
        value: value instanceof Uint8Array ? sharedCopy(value) : kind === 'error' ? packError(value) : value,
        extra,
      },
      // Until now it has waited for those before it.
      onTaken: () => connection.onCallbackPending(),
      onSettled: error => {
        hasSettled = true;
        if (given && this.#running.get(connection) === given) this.#forget(connection);
        if (error) reject(error);
        else resolve();
      },
    });
    if (!hasSettled) this.#running.set(connection, given);
    return promise;
  }

  /** The connection has begun to close. */
  onClosing(connection: object): void {
    this.#running.get(connection)?.abort();
  }

  /** Has the callback not begun, because every thread has another to run? */
  isWaiting(connection: object): boolean {
    return this.#running.get(connection)?.isWaiting === true;
  }

  /** The callback that runs is not waited for any more. */
  onGivenUp(connection: object): void {
    this.#running.get(connection)?.giveUp();
    this.#forget(connection);
  }

  close(): Promise<void> {
    return this.#pool.close(this.#module);
  }

  /** The same when the callbacks that run have settled. None may begin any more. */
  async leave(): Promise<void> {
    if (this.#running.size > 0) await new Promise<void>(resolve => (this.#onEmpty = resolve));
    await this.close();
  }

  #forget(connection: object): void {
    this.#running.delete(connection);
    if (this.#running.size === 0) this.#onEmpty();
  }
}

/** Why a module cannot be loaded, and where that was found out. */
function reasonOf(error: Error, module: string): string {
  const { code, url } = error as NodeJS.ErrnoException & { readonly url?: string };
  if (code === 'ERR_MODULE_NOT_FOUND' && url === module) return 'there is no such file';
  return loadFailure(error);
}

function faultOf(exported: ModuleExports, options: object): string | undefined {
  const known: readonly string[] = THREAD_CALLBACKS;
  for (const [name, isFunction] of exported) {
    if (OF_THE_DEFINITION.includes(name))
      return `"${name}" runs in the main thread; write it in the definition of the endpoint`;
    if (!known.includes(name)) {
      if (!/^on[A-Z]/.test(name)) continue;
      const near = nearestName(name, known);
      return `there is no callback "${name}"; ${near ? `did you mean "${near}"?` : `callbacks are ${known.join(', ')}`}`;
    }
    if (!isFunction) return `"${name}" is not a function`;
    if ((options as Readonly<Record<string, unknown>>)[name] !== undefined)
      return `"${name}" is in the definition of the endpoint too; remove one of the two`;
  }
  if (exported.some(([name]) => known.includes(name))) return undefined;
  return `it exports none of ${known.join(', ')}`;
}

/** Shared, so that it goes to another thread without another copy, and to a second one when the first is lost. */
function sharedCopy(bytes: Uint8Array): SharedArrayBuffer {
  const copy = new SharedArrayBuffer(bytes.length);
  new Uint8Array(copy).set(bytes);
  return copy;
}

function factsOf(connection: CalledConnection): ConnectionInThread {
  const { id, isSecure, user, remoteAddress, remotePort, url, params, subprotocol, session, endpoint } = connection;
  const { patterns, subprotocols, supportedVersions } = endpoint;
  return {
    ...{ id, isSecure, remoteAddress, remotePort, params, subprotocol },
    url: url.href,
    user: user && { name: user.name, roles: user.roles, claims: user.claims },
    session: session && { id: session.id, maxAttributeBytes: encodedSession(session).maxAttributeBytes },
    endpoint: { patterns, subprotocols, supportedVersions },
  };
}
