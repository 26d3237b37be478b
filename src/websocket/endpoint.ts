import type { Duplex } from 'node:stream';
import { HoldfastError } from '../base/errors.ts';
import { checkNeeded, checkOptions, kindOf } from '../base/options.ts';
import { expressionProblem, isExpressionText } from '../http/expression.ts';
import { isRefusal, RETRY_AFTER_S, type Refusal, refuse } from '../http/refusal.ts';
import { parseRoutePattern } from '../http/route-pattern.ts';
import { CloseCode } from '../wire/close-codes.ts';
import { BROADCAST_OPTIONS, type BroadcastResult, broadcast } from './broadcast.ts';
import { isThenable } from './callback-queue.ts';
import type { Connection, Endpoint } from './connection.ts';
import { Dispatcher } from './dispatcher.ts';
import {
  type ConnectionFacts,
  type ConnectionOwner,
  type ConnectionServices,
  EndpointConnection,
} from './endpoint-connection.ts';
import { endpointLimits } from './endpoint-limits.ts';
import {
  ACCEPT_REFUSAL,
  ACCEPTANCE,
  type Acceptance,
  type AcceptRefusal,
  type CloseEvent,
  ENDPOINT_OPTIONS,
  type EndpointLimits,
  type EndpointOptions,
} from './endpoint-options.ts';
import type { Handshake } from './handshake.ts';
import { PendingHandshake } from './pending-handshake.ts';
import { headerLine } from './protocol/handshake.ts';
import { describe } from './protocol/outgoing.ts';
import {
  checkDeflateOptions,
  type DeflateOptions,
  negotiateDeflate,
  PerMessageDeflate,
} from './protocol/permessage-deflate.ts';
import type { ThreadPool, ThreadServices } from './threads/thread-pool.ts';
import { moduleUrl, ThreadedCallbacks } from './threads/threaded-callbacks.ts';
import type { TimerWheel } from './timer-wheel.ts';

// Recognised across two loaded copies of the package, as `instanceof` is not. Its value is the endpoint itself, so that
// a copy of an endpoint, or an object that inherits from one, has the mark of another object.
const brand = Symbol.for('holdfast.endpoint');

type Verdict<Data> = boolean | Acceptance<Data> | AcceptRefusal;

/** A handshake that the endpoint takes: what goes into the 101, and what the connection starts with. */
export interface AcceptedHandshake<Data> {
  readonly allow: true;
  readonly subprotocol: string;
  readonly extensions: string | undefined;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly deflate: PerMessageDeflate | undefined;
  readonly data: Data;
}

/**
 * Declares a WebSocket endpoint. Declaring is all: an exported endpoint is served where its module is listed under
 * `endpoints`, or where a route names it.
 *
 * @throws {TypeError} naming the option when one is not valid.
 *
 * @example
 * import { createServer, defineEndpoint } from 'holdfast';
 *
 * const echo = defineEndpoint({
 *   path: '/echo',
 *   onMessage: (connection, data) => {
 *     connection.send(data);
 *   },
 * });
 * const server = createServer({ listen: [{ port: 0 }], session: false, routes: [{ endpoint: echo }] });
 * await server.start();
 * await server.stop();
 */
export function defineEndpoint<Data = undefined>(options: EndpointOptions<Data>): Endpoint<Data> {
  checkOptions('defineEndpoint', options, ENDPOINT_OPTIONS);
  checkNeeded('defineEndpoint', options, ['path'], "{ path: '/chat', onMessage(connection, data) {} }");
  checkLists(options);
  return new ServedEndpoint(options);
}

/** In JavaScript one text in the place of a list would be taken letter by letter, or fail when a client comes. */
function checkLists({
  subprotocols,
  origins,
  compression,
}: Pick<EndpointOptions, 'subprotocols' | 'origins' | 'compression'>): void {
  const isList = (value: unknown, test: (one: unknown) => boolean) => Array.isArray(value) && value.every(test);
  if (subprotocols !== undefined && !isList(subprotocols, one => typeof one === 'string'))
    throw new TypeError(`defineEndpoint: "subprotocols" is a list of texts, not ${kindOf(subprotocols)}`);
  const isRule = (one: unknown) => typeof one === 'string' || one instanceof RegExp;
  if (origins !== undefined && origins !== 'accept' && origins !== 'any' && !isList(origins, isRule))
    throw new TypeError(
      `defineEndpoint: "origins" is "accept", "any" or a list of origins, not ${kindOf(origins)}; write for example ['self', 'https://example.com']`,
    );
  for (const rule of Array.isArray(origins) ? origins : []) {
    const problem = typeof rule !== 'string' || isExpressionText(rule) ? expressionProblem(rule, 'whole') : undefined;
    if (problem) throw new TypeError(`defineEndpoint: "origins": ${problem}`);
  }
  if (compression !== undefined && typeof compression !== 'boolean' && kindOf(compression) !== 'an object')
    throw new TypeError(`defineEndpoint: "compression" is true, false or an object, not ${kindOf(compression)}`);
}

/**
 * True for what `defineEndpoint` returned, also that of another loaded copy of the package.
 *
 * @example
 * import { defineEndpoint, isEndpoint } from 'holdfast';
 *
 * console.log(isEndpoint(defineEndpoint({ path: '/echo' })), isEndpoint({ path: '/echo' })); // true false
 */
export function isEndpoint(value: unknown): value is Endpoint<unknown> {
  return typeof value === 'object' && value !== null && brand in value;
}

/**
 * The server's side of an endpoint that an application has passed to it.
 *
 * @param route What the message calls the route that has it.
 * @throws {TypeError} when it is not what `defineEndpoint` returned, but a copy of it or an object that looks like it.
 */
export function servedEndpoint<Data>(endpoint: Endpoint<Data>, route: string): ServedEndpoint<Data> {
  const served = endpoint as ServedEndpoint<Data>;
  if (served[brand] !== served)
    throw new TypeError(
      `${route}: this endpoint is a copy or a look-alike, which cannot be served; pass what defineEndpoint returned`,
    );
  return served;
}

/**
 * An endpoint as the server sees it, which judges handshakes and opens connections. Applications get it as an
 * `Endpoint`.
 */
export class ServedEndpoint<Data = undefined> implements Endpoint<Data> {
  readonly [brand]: this = this;
  readonly options: EndpointOptions<Data>;
  readonly patterns: readonly string[];
  readonly subprotocols: readonly string[];
  readonly supportedVersions: readonly number[] = [13];
  readonly limits: EndpointLimits;
  readonly #deflate: DeflateOptions | undefined;
  readonly #open = new Set<EndpointConnection<unknown>>();
  readonly #closing = new Set<EndpointConnection<unknown>>();
  readonly #owner: ConnectionOwner;
  #dispatcher: Dispatcher | undefined;
  /** The callbacks that run in threads, while it is served. */
  #threaded: ThreadedCallbacks | undefined;
  /** Those of before that have not settled, and until when. */
  readonly #threadedBefore = new Map<ThreadedCallbacks, Promise<void>>();
  #isRunning = false;
  /** Handshakes being judged and connections that are not yet gone. */
  #taken = 0;
  readonly #judged = new Set<PendingHandshake>();
  /** Connections whose last callback has not settled. */
  #unfinished = 0;
  #onEmpty: (() => void)[] = [];

  constructor(options: EndpointOptions<Data>) {
    this.options = options;
    const paths: unknown = [options.path].flat();
    if (!(paths as unknown[]).every(path => typeof path === 'string'))
      throw new TypeError(`defineEndpoint: "path" is a text or a list of texts, not ${kindOf(options.path)}`);
    this.patterns = typeof options.path === 'string' ? [options.path] : [...options.path];
    if (this.patterns.length === 0) throw new TypeError('path: an endpoint needs at least one pattern');
    for (const pattern of this.patterns) checkPattern(pattern);
    this.subprotocols = options.subprotocols ?? [];
    this.limits = endpointLimits(options);
    this.#deflate = options.compression === true ? {} : options.compression || undefined;
    if (this.#deflate) checkDeflateOptions(this.#deflate);
    if (options.dispatch !== undefined && typeof options.dispatch !== 'string')
      this.#dispatcher = new Dispatcher(options.dispatch);
    if (options.handlers !== undefined) moduleUrl(options.handlers);
    const fault = typeof options.dispatch === 'string' ? undefined : threadFault(options, this.#dispatcher);
    if (fault) throw new TypeError(`defineEndpoint: ${fault}`);
    this.#owner = this.#makeOwner();
  }

  get connections(): ReadonlySet<Connection<Data>> {
    return this.#open as ReadonlySet<Connection<Data>>;
  }

  broadcast(
    data: string | Uint8Array,
    options: { except?: Connection<Data> | Iterable<Connection<Data>> } = {},
  ): BroadcastResult {
    checkOptions('broadcast', options, BROADCAST_OPTIONS);
    return broadcast('broadcast', this.#open, data, options.except);
  }

  /** Limits its callbacks, or runs them in threads; undefined where they run as they come. */
  get dispatcher(): Dispatcher | undefined {
    return this.#dispatcher;
  }

  get isEmpty(): boolean {
    return this.#taken === 0 && this.#unfinished === 0;
  }

  // ---- what the server calls

  /** Cuts every connection, also those that are closing, and refuses those that `accept` has not yet answered. */
  terminateAll(): void {
    for (const handshake of this.#judged)
      handshake.giveUp(refuse(503, 'ERR_SERVER_STATE', 'the server is stopping', { closeCode: CloseCode.goingAway }));
    for (const connection of [...this.#open, ...this.#closing]) connection.terminate();
  }

  /**
   * The server's named dispatch policy, for an endpoint that asks for one by name.
   * @throws {HoldfastError} ERR_CONFIG_INVALID when one of them has threads or handlers for threads, and the other not.
   */
  useDispatcher(dispatcher: Dispatcher): void {
    this.checkDispatcher(dispatcher);
    this.#dispatcher = dispatcher;
  }

  /** @throws {HoldfastError} ERR_CONFIG_INVALID when it does not fit. */
  checkDispatcher(dispatcher: Dispatcher): void {
    const fault = threadFault(this.options, dispatcher);
    if (fault) throw new HoldfastError('ERR_CONFIG_INVALID', `endpoint ${this.patterns[0]}: ${fault}`);
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /**
   * Loads the handlers into their threads and runs `init`.
   *
   * @throws {HoldfastError} ERR_SERVER_STATE when it is running already: an endpoint belongs to one server at a time;
   * ERR_CONFIG_INVALID when the module of its handlers cannot be used.
   */
  async start(services: ThreadServices): Promise<void> {
    if (this.#isRunning)
      throw new HoldfastError(
        'ERR_SERVER_STATE',
        `endpoint ${this.patterns[0]} is served already; define it once for each server`,
      );
    this.#isRunning = true;
    try {
      await this.#openThreads(services);
      await this.options.init?.();
    } catch (error) {
      await this.#closeThreads();
      this.#isRunning = false;
      throw error;
    }
  }

  /**
   * Loads the handlers into one thread like those of a dispatcher, and ends it. What runs of the endpoint is not touched.
   *
   * @throws {HoldfastError} what `start` would: ERR_CONFIG_INVALID when the module of its handlers cannot be used.
   */
  async checkHandlers(dispatcher: Dispatcher | undefined, services: ThreadServices): Promise<void> {
    const threaded = await this.#loadHandlers(dispatcher?.threads?.another(1), services);
    await threaded?.close();
  }

  /**
   * Loads the handlers into the newest threads of a dispatcher, while callbacks go on where they run.
   *
   * @returns undefined: they are there. `commit`: what begins from now on runs in those threads. What runs is finished
   * where it is, and the threads of before end with the last endpoint that has left them.
   * @throws {HoldfastError} as `start`. Nothing has changed then.
   */
  async moveHandlers(
    { newestThreads }: Dispatcher,
    services: ThreadServices,
  ): Promise<{ commit(): void; abandon(): Promise<void> } | undefined> {
    const before = this.#threaded;
    if (before === undefined || newestThreads === undefined || before.isIn(newestThreads)) return undefined;
    const threaded = await this.#loadHandlers(newestThreads, services);
    return {
      commit: () => {
        this.#useThreaded(threaded);
        const left = before.leave().finally(() => this.#threadedBefore.delete(before));
        this.#threadedBefore.set(before, left);
      },
      abandon: async () => threaded?.close(),
    };
  }

  /** Resolves when it has no connection, and no callback of one runs. */
  async emptied(): Promise<void> {
    while (!this.isEmpty) await new Promise<void>(resolve => this.#onEmpty.push(resolve));
  }

  /** Waits for the last callback of the last connection and runs `destroy`. Closing them is the server's part. */
  async stop(): Promise<void> {
    if (!this.#isRunning) return;
    await this.emptied();
    this.#isRunning = false;
    try {
      await this.options.destroy?.();
    } finally {
      await this.#closeThreads();
    }
  }

  /**
   * Judges a handshake that is legal and was admitted: connection limit (503), then the application's `accept`, which
   * has the handler timeout to answer (503). An accepted handshake holds a place until `open` or `giveUp`.
   */
  async judge(
    handshake: Handshake,
    transport: Duplex,
    { wheel }: ConnectionServices,
  ): Promise<AcceptedHandshake<Data> | Refusal> {
    const { maxConnections } = this.limits;
    if (this.#taken >= maxConnections)
      return refuse(503, 'ERR_WS_CONNECTION_LIMIT', `${this.patterns[0]} has its ${maxConnections} connections`, {
        closeCode: CloseCode.tryAgainLater,
        headers: { 'Retry-After': RETRY_AFTER_S },
      });
    this.#taken++;
    let taken = false;
    try {
      const verdict = this.options.accept ? this.options.accept(handshake) : true;
      const answer = isThenable(verdict)
        ? await this.#answerLater(handshake, verdict as PromiseLike<Verdict<Data>>, transport, wheel)
        : this.#answer(handshake, verdict as Verdict<Data>);
      taken = !isRefusal(answer);
      return answer;
    } finally {
      if (!taken) this.giveUp();
    }
  }

  #sayEmpty(): void {
    if (this.isEmpty) for (const resolve of this.#onEmpty.splice(0)) resolve();
  }

  /** The client of an accepted handshake went away before the connection was open. */
  giveUp(): void {
    this.#taken--;
    this.#sayEmpty();
  }

  /** The 101 has been written: the connection lives. `early` is what the client sent behind its handshake. */
  open(
    transport: Duplex,
    early: Buffer,
    services: ConnectionServices,
    facts: ConnectionFacts,
    data: Data,
  ): EndpointConnection<Data> {
    const connection = new EndpointConnection(transport, this.#owner, services, facts, data);
    this.#open.add(connection);
    this.#unfinished++;
    connection.start(early);
    return connection;
  }

  async #openThreads(services: ThreadServices): Promise<void> {
    this.#useThreaded(await this.#loadHandlers(this.#dispatcher?.newestThreads, services));
  }

  #useThreaded(threaded: ThreadedCallbacks | undefined): void {
    this.#threaded = threaded;
    this.#owner.wantsFragments = this.options.onFragment !== undefined || threaded?.has('fragment') === true;
  }

  /** Where a callback of a connection may run now. */
  get #everyThreaded(): ThreadedCallbacks[] {
    return [...(this.#threaded ? [this.#threaded] : []), ...this.#threadedBefore.keys()];
  }

  async #loadHandlers(pool: ThreadPool | undefined, services: ThreadServices): Promise<ThreadedCallbacks | undefined> {
    const { handlers } = this.options;
    if (handlers === undefined || pool === undefined) return undefined;
    return ThreadedCallbacks.open(this.patterns[0]!, moduleUrl(handlers), this.options, pool, services);
  }

  async #closeThreads(): Promise<void> {
    await Promise.all([this.#threaded?.close(), ...this.#threadedBefore.values()]);
    this.#threaded = undefined;
  }

  async #answerLater(
    handshake: Handshake,
    verdict: PromiseLike<Verdict<Data>>,
    transport: Duplex,
    wheel: TimerWheel,
  ): Promise<AcceptedHandshake<Data> | Refusal> {
    const pending = new PendingHandshake(transport, wheel, this.limits.handlerTimeoutMs);
    this.#judged.add(pending);
    try {
      return await Promise.race([
        pending.refused,
        Promise.resolve(verdict).then(answer => this.#answer(handshake, answer)),
      ]);
    } finally {
      this.#judged.delete(pending);
      pending.end();
    }
  }

  #answer(handshake: Handshake, verdict: Verdict<Data>): AcceptedHandshake<Data> | Refusal {
    // Nobody is let in because a `return` was forgotten, or a name misspelled.
    if (verdict === undefined)
      throw new TypeError(
        'accept returned nothing; a "return" may be missing: answer true, false, an acceptance or a refusal',
      );
    if (typeof verdict !== 'boolean' && (typeof verdict !== 'object' || verdict === null))
      throw new TypeError(`accept: answer true, false, an acceptance or a refusal, not ${String(verdict)}`);
    if (verdict === false) return refuse(403, 'ERR_WS_ACCEPT_REFUSED', 'accept refused the handshake');
    if (verdict !== true && 'status' in verdict) {
      checkOptions('accept', verdict, ACCEPT_REFUSAL);
      const { status, body } = verdict;
      if (!(Number.isInteger(status) && status >= 300 && status <= 599))
        throw new TypeError(
          `accept: a refusal has a status of 300 to 599, not ${typeof status === 'number' ? status : describe(status)}`,
        );
      if (body !== undefined && typeof body !== 'string')
        throw new TypeError(`accept: the body of a refusal is a string, not ${describe(body)}; write it as text`);
      // Read once: what is written later must be what was checked.
      const headers = Object.entries(verdict.headers ?? {});
      for (const [name, value] of headers) headerLine(name, value);
      return refuse(status, 'ERR_WS_ACCEPT_REFUSED', 'accept refused the handshake', {
        headers: Object.fromEntries(headers),
        ...(body !== undefined && { body }),
      });
    }
    if (verdict !== true) {
      checkOptions('accept', verdict, { ...ACCEPTANCE, ...ACCEPT_REFUSAL });
      if ('body' in verdict) throw new TypeError('accept: a refusal has a "status" of 300 to 599; this one has none');
    }
    const acceptance: Acceptance<Data> = verdict === true ? {} : verdict;
    const subprotocol =
      acceptance.subprotocol ?? this.subprotocols.find(name => handshake.subprotocols.includes(name)) ?? '';
    // RFC 6455 §4.2.2: the client must have offered it.
    if (subprotocol !== '' && !handshake.subprotocols.includes(subprotocol))
      throw new TypeError(`accept: the client did not offer the subprotocol ${JSON.stringify(subprotocol)}`);
    const deflate = this.#deflate && negotiateDeflate(handshake.extensions, this.#deflate);
    return {
      allow: true,
      subprotocol,
      extensions: deflate?.response,
      headers: acceptance.headers ?? {},
      deflate: deflate && new PerMessageDeflate(deflate.params, 'server', this.#deflate!),
      data: acceptance.data as Data,
    };
  }

  #makeOwner(): ConnectionOwner {
    const endpoint = this;
    const { options } = this;
    return {
      endpoint: this as Endpoint<unknown>,
      limits: this.limits,
      wantsFragments: options.onFragment !== undefined,
      idleAssembler: undefined,
      get dispatcher() {
        return endpoint.#dispatcher;
      },
      hasCallback: kind => options[OPTION_OF[kind]] !== undefined || endpoint.#threaded?.has(kind) === true,
      invoke(connection, kind, value, extra) {
        // Who takes nothing but pieces gets one, the last, where a message had to be judged whole, or has waited until a
        // reload brought handlers that take it so.
        if (kind === 'message' && extra === true && !this.hasCallback('message'))
          return this.invoke(connection, 'fragment', value, true);
        if (kind === 'fragment' && !this.hasCallback('fragment') && this.hasCallback('message'))
          throw new Error('the handlers of before took this message in pieces, and those of now take whole ones');
        const threaded = endpoint.#threaded;
        if (threaded?.has(kind)) return threaded.run(connection, kind, value, kind === 'message' ? undefined : extra);
        const own = connection as EndpointConnection<Data>;
        switch (kind) {
          case 'message':
            return options.onMessage?.(own, value as string | Uint8Array);
          case 'open':
            return options.onOpen?.(own);
          case 'fragment':
            return options.onFragment?.(own, value as string | Uint8Array, extra as boolean);
          case 'ping':
            return options.onPing?.(own, value as Uint8Array);
          case 'pong':
            return options.onPong?.(own, value as Uint8Array);
          case 'auth-expiring':
            return options.onAuthExpiring?.(own, value as number);
          case 'timeout':
            return options.onTimeout?.(own);
          case 'error':
            return options.onError?.(own, value as Error);
          case 'close':
            return options.onClose?.(own, value as CloseEvent);
        }
      },
      onClosing: connection => {
        this.#open.delete(connection);
        this.#closing.add(connection);
        for (const threaded of this.#everyThreaded) threaded.onClosing(connection);
      },
      isWaitingForThread: connection => this.#everyThreaded.some(threaded => threaded.isWaiting(connection)),
      onGivenUp: connection => {
        for (const threaded of this.#everyThreaded) threaded.onGivenUp(connection);
      },
      onGone: connection => {
        this.#closing.delete(connection);
        this.giveUp();
      },
      onFinished: () => {
        this.#unfinished--;
        this.#sayEmpty();
      },
    };
  }
}

/** Says what is wrong when handlers and threads do not come together; undefined when nothing is. */
function threadFault(
  { handlers, dispatch }: Pick<EndpointOptions, 'handlers' | 'dispatch'>,
  dispatcher: Dispatcher | undefined,
): string | undefined {
  const policy = typeof dispatch === 'string' ? `dispatch policy ${JSON.stringify(dispatch)}` : '"dispatch"';
  if (handlers === undefined && dispatcher?.threads)
    return `${policy} has threads, which run what a module exports; add "handlers", the URL of a module`;
  if (handlers !== undefined && !dispatcher?.threads)
    return `"handlers" run in threads, and ${policy} has none; write for example dispatch: { threads: 4 }`;
  return undefined;
}

const OPTION_OF = {
  message: 'onMessage',
  fragment: 'onFragment',
  ping: 'onPing',
  pong: 'onPong',
  'auth-expiring': 'onAuthExpiring',
  error: 'onError',
} as const;

/** @throws {TypeError} that names the option. */
function checkPattern(pattern: string): void {
  try {
    parseRoutePattern(pattern);
  } catch (error) {
    throw new TypeError(`path: ${(error as Error).message}`, { cause: error });
  }
}
