import type { Duplex } from 'node:stream';
import type { Timer } from '../base/clock.ts';
import { HoldfastError, toError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { FrameLimit } from '../policy/limits/frame-limit.ts';
import type { Session } from '../session/session.ts';
import { CloseCode } from '../wire/close-codes.ts';
import type { BroadcastResult, Recipient } from './broadcast.ts';
import { type CallbackKind, CallbackQueue, type CallbackTarget } from './callback-queue.ts';
import type { Connection, Endpoint } from './connection.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { CloseEvent, EndpointLimits } from './endpoint-options.ts';
import { handshakeUrl, type User } from './handshake.ts';
import { type InflateOwner, InflatePlace } from './inflate-turns.ts';
import { breakOf, hasLeft, hearLastWords } from './last-words.ts';
import { Outbox, type OutboxOwner } from './outbox.ts';
import { MessageAssembler, type MessageHandler } from './protocol/message-assembler.ts';
import { Opcode } from './protocol/opcodes.ts';
import { checkClose, checkData, checkTopic, controlPayload } from './protocol/outgoing.ts';
import type { PerMessageDeflate } from './protocol/permessage-deflate.ts';
import type { SharedMessage } from './shared-message.ts';
import { type TimerWheel, WheelEntry } from './timer-wheel.ts';
import type { Topics } from './topics.ts';
import { pauseReads, resumeReads, startReads } from './transport-reads.ts';

/** What every connection of a server shares. */
export interface ConnectionServices {
  readonly wheel: TimerWheel;
  readonly topics: Topics;
  readonly logger: Logger;
}

/** The part of a session that a socket holds on to. */
export interface AttachedSession {
  readonly session: Session;
  readonly isEnded: boolean;
  /** Traffic keeps the session alive. Cheap: may be called for every message. */
  touch(): void;
  /** Told when changes could not be committed although it was tried again and again. */
  onError(listener: (error: Error) => void): void;
  /** The socket is gone. */
  release(): Promise<void>;
}

/** What is kept of the handshake. */
export interface ConnectionFacts {
  readonly host: string;
  readonly path: string;
  readonly query: string;
  readonly params: Readonly<Record<string, string>>;
  readonly subprotocol: string;
  readonly isSecure: boolean;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly user: User | undefined;
  readonly session: AttachedSession | undefined;
  readonly touchOnTraffic: 'message' | 'any' | 'never';
  readonly deflate: PerMessageDeflate | undefined;
  /** What the client may send. Left out: as much as it likes. */
  readonly frameLimit?: FrameLimit | undefined;
  /** Judges whole messages before the application has them. The error that it returns closes the connection. */
  readonly inspect?: ((message: string | Buffer) => HoldfastError | undefined) | undefined;
  /** Called once, when the TCP connection is gone. */
  readonly onGone: ((connection: EndpointConnection<unknown>, event: CloseEvent) => void) | undefined;
}

/** What the endpoint gives its connections. */
export interface ConnectionOwner {
  readonly endpoint: Endpoint<unknown>;
  readonly limits: EndpointLimits;
  readonly dispatcher: Dispatcher | undefined;
  wantsFragments: boolean;
  /** Left by a connection that is between two messages, for the next one that reads. */
  idleAssembler: MessageAssembler | undefined;
  /** @param extra Of a fragment: it is the last. Of a message: it came in several frames. */
  invoke(connection: EndpointConnection<unknown>, kind: CallbackKind, value: unknown, extra: unknown): unknown;
  hasCallback(kind: 'message' | 'fragment' | 'ping' | 'pong' | 'auth-expiring' | 'error'): boolean;
  /** It has begun to close: it takes no more messages. */
  onClosing(connection: EndpointConnection<unknown>): void;
  /** The TCP connection is gone. */
  onGone(connection: EndpointConnection<unknown>, event: CloseEvent): void;
  /** Has its callback not begun, because every thread has another to run? */
  isWaitingForThread(connection: EndpointConnection<unknown>): boolean;
  /** Its callback has not settled in time: nobody waits for it any more. */
  onGivenUp(connection: EndpointConnection<unknown>): void;
  /** Its last callback has settled. */
  onFinished(connection: EndpointConnection<unknown>): void;
}

/** What a client alone can be the cause of. */
const VIOLATIONS: ReadonlySet<number> = new Set([
  CloseCode.protocolError,
  CloseCode.invalidData,
  CloseCode.policyViolation,
  CloseCode.messageTooBig,
]);

type ConnectionState = 'open' | 'closing' | 'gone';

// Marks our own pings, so that the application does not see pongs it never asked for.
const HEARTBEAT = Buffer.from('\0holdfast');
const RATE_REASON = 'too many messages';
const LONGEST_LOOK_AWAY_MS = 10_000;
const NEVER = Number.POSITIVE_INFINITY;
const connectionOf = Symbol('connection');

type BoundTransport = Duplex & { [connectionOf]: EndpointConnection<unknown> };

let lastId = 0;

/**
 * The server's side of one WebSocket: ties reader, callbacks and outbox to the life of the connection.
 *
 * It keeps what was extracted from the handshake and never the request, and it has one entry in the shared timer wheel,
 * for whichever of its limits comes next.
 */
export class EndpointConnection<Data = undefined>
  extends WheelEntry
  implements Connection<Data>, Recipient, MessageHandler, CallbackTarget, OutboxOwner, InflateOwner
{
  data: Data;
  readonly outbox: Outbox;
  readonly dispatcher: Dispatcher | undefined;
  readonly #number = ++lastId;
  readonly #transport: Duplex;
  readonly #owner: ConnectionOwner;
  readonly #services: ConnectionServices;
  readonly #facts: ConnectionFacts;
  /** None between messages, unless it inflates: of many connections few are in the middle of one. */
  #assembler: MessageAssembler | undefined;
  /** Of a connection that inflates. */
  #inflating: InflatePlace | undefined;
  readonly #callbacks: CallbackQueue;
  #state: ConnectionState = 'open';
  /** How it ended: the close frame that came first, of either side. */
  #ending: CloseEvent | undefined;
  #isKnown = false;
  #abort: AbortController | undefined;
  #topics: Set<string> | undefined;
  #isReadingPaused = false;
  /** The client has sent too much, and is not read until then. */
  #holdTimer: Timer | undefined;
  #isTimingOut = false;
  #lastRead: number;
  #lastWrite: number;
  /** -1: never. */
  #pingSentAt = -1;
  #callbackDeadline: number | undefined;
  #closeDeadline: number | undefined;
  /** Has the peer begun to close it? */
  isClosedByPeer = false;
  messagesReceived = 0;
  messagesSent = 0;
  /** With the headers of frames, and control frames. */
  bytesReceived = 0;

  constructor(
    transport: Duplex,
    owner: ConnectionOwner,
    services: ConnectionServices,
    facts: ConnectionFacts,
    data: Data,
  ) {
    super();
    this.data = data;
    this.#transport = transport;
    this.#owner = owner;
    this.dispatcher = owner.dispatcher;
    this.#services = services;
    this.#facts = facts;
    this.#callbacks = new CallbackQueue(this);
    this.outbox = new Outbox(transport, { limits: owner.limits, owner: this, deflate: facts.deflate });
    this.#lastRead = this.#lastWrite = services.wheel.now;
    this.#scheduleTimer();
  }

  /** Begins: `onOpen`, then what the client sent together with its handshake. */
  start(early: Buffer): void {
    const transport = this.#transport as BoundTransport;
    transport[connectionOf] = this;
    hearLastWords(transport);
    startReads(transport, onRead);
    transport.on('end', onEnd).on('error', onError).on('close', onClose);
    this.#facts.session?.onError(error => this.#onSessionNotSaved(error));
    this.#callbacks.push('open', undefined, undefined);
    if (early.length > 0) this.receive(early, early.length);
    if (transport.destroyed) this.gone();
  }

  // ---- what the application sees

  get id(): string {
    return `c${this.#number.toString(36)}`;
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  get isSecure(): boolean {
    return this.#facts.isSecure;
  }

  get user(): User | undefined {
    return this.#facts.user;
  }

  get session(): Session | undefined {
    return this.#facts.session?.session;
  }

  get endpoint(): Endpoint<Data> {
    return this.#owner.endpoint as Endpoint<Data>;
  }

  get remoteAddress(): string {
    return this.#facts.remoteAddress;
  }

  get remotePort(): number {
    return this.#facts.remotePort;
  }

  get url(): URL {
    return handshakeUrl(this.#facts);
  }

  get params(): Readonly<Record<string, string>> {
    return this.#facts.params;
  }

  get subprotocol(): string {
    return this.#facts.subprotocol;
  }

  get bufferedAmount(): number {
    return this.outbox.bufferedAmount;
  }

  /** As `bytesReceived`. */
  get bytesSent(): number {
    return this.outbox.bytesSent;
  }

  get droppedMessages(): number {
    return this.outbox.droppedMessages;
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#state !== 'open') this.#abort.abort();
    }
    return this.#abort.signal;
  }

  send(data: string | Uint8Array): boolean {
    if (this.#state !== 'open') {
      checkData('send', data);
      return false;
    }
    // It refuses what is neither text nor bytes: nothing else of the connection has changed then.
    const isWithinLimit = this.outbox.message(data);
    this.#lastWrite = this.#services.wheel.now;
    this.messagesSent++;
    return isWithinLimit;
  }

  sendShared(message: SharedMessage): boolean {
    const dropped = this.outbox.droppedMessages;
    this.#lastWrite = this.#services.wheel.now;
    this.messagesSent++;
    this.outbox.shared(message);
    if (this.#owner.limits.slowReader === 'drop' && this.outbox.droppedMessages > dropped) return false;
    return this.#state === 'open';
  }

  drained(): Promise<void> {
    return new Promise(resolve => this.outbox.afterFlushed(resolve));
  }

  stream(chunk: string | Uint8Array, last: boolean): boolean {
    checkData('stream', chunk);
    if (this.#state !== 'open') return false;
    this.#lastWrite = this.#services.wheel.now;
    if (last) this.messagesSent++;
    return this.outbox.fragment(chunk, last);
  }

  ping(data: string | Uint8Array = ''): boolean {
    return this.#sendControl(Opcode.ping, controlPayload('ping', data));
  }

  pong(data: string | Uint8Array = ''): boolean {
    return this.#sendControl(Opcode.pong, controlPayload('pong', data));
  }

  close(code: number = CloseCode.normal, reason = ''): void {
    checkClose(code, reason);
    if (this.#state === 'open') this.#beginClose({ code, reason, clean: false }, code);
  }

  terminate(): void {
    this.#transport.destroy();
  }

  subscribe(topic: string): void {
    checkTopic('subscribe', topic);
    if (this.#state !== 'open') return;
    this.#topics ??= new Set();
    this.#topics.add(topic);
    this.#services.topics.subscribe(topic, this);
  }

  unsubscribe(topic: string): void {
    checkTopic('unsubscribe', topic);
    if (this.#topics?.delete(topic)) this.#services.topics.unsubscribe(topic, this);
  }

  // ---- what handlers in threads have beside that

  publish(topic: string, data: string | Uint8Array, except?: object): BroadcastResult {
    return this.#services.topics.publish(topic, data, except);
  }

  // ---- what the transport tells

  /** The bytes are valid until it returns. */
  receive(chunk: Buffer, length: number): void {
    this.#lastRead = this.#services.wheel.now;
    this.bytesReceived += length;
    if (this.#facts.touchOnTraffic === 'any') this.#facts.session?.touch();
    const waitMs = this.frameLimit?.takeBytes(length) ?? 0;
    this.outbox.cork();
    this.#takeAssembler().reader.push(chunk, length);
    this.outbox.uncork();
    this.#leaveAssembler();
    if (waitMs > 0 && this.#state === 'open') this.hold(waitMs);
  }

  /** The peer sends no more. Without its close frame that is an abnormal end. */
  peerEnded(): void {
    const broke = breakOf(this.#transport);
    if (broke) this.failed(broke);
    this.#beginEnd(undefined);
    this.#endTransport();
  }

  failed(cause: Error): void {
    this.outbox.stop();
    if (this.#state !== 'open') return;
    this.#beginEnd(undefined);
    const message = `the connection broke: ${cause.message}`;
    this.#report(new HoldfastError('ERR_WS_CONNECTION_LOST', message, { cause, closeCode: CloseCode.abnormal }));
  }

  gone(): void {
    if (this.#state === 'gone') return;
    this.#beginEnd(undefined);
    this.outbox.stop();
    this.#state = 'gone';
    this.#closeDeadline = undefined;
    const event = this.#ending ?? { code: CloseCode.abnormal, reason: '', clean: false };
    this.#callbacks.push('close', event, undefined);
    this.#scheduleTimer();
    this.#owner.onGone(this, event);
    this.#facts.onGone?.(this, event);
  }

  #takeAssembler(): MessageAssembler {
    if (this.#assembler !== undefined) return this.#assembler;
    const { deflate } = this.#facts;
    const { idleAssembler, limits } = this.#owner;
    if (idleAssembler === undefined || deflate !== undefined) {
      this.#inflating = deflate && new InflatePlace(this);
      this.#assembler = new MessageAssembler(this, { role: 'server', limits, deflate, schedule: this.#inflating });
    } else {
      this.#owner.idleAssembler = undefined;
      this.#assembler = idleAssembler;
      idleAssembler.handler = this;
    }
    return this.#assembler;
  }

  #leaveAssembler(): void {
    if (this.#facts.deflate !== undefined || !this.#assembler?.reader.isAtRest) return;
    this.#assembler.handler = undefined;
    this.#owner.idleAssembler = this.#assembler;
    this.#assembler = undefined;
  }

  // ---- what the reader finds (MessageHandler)

  get frameLimit(): FrameLimit | undefined {
    return this.#state === 'open' ? this.#facts.frameLimit : undefined;
  }

  /** The client has sent too much: nothing is read for so many milliseconds. */
  hold(ms: number): void {
    const { clock } = this.#facts.frameLimit!;
    this.#assembler?.reader.pause();
    pauseReads(this.#transport);
    if (this.#isHeld) return;
    this.#holdTimer = clock.setTimeout(() => {
      this.#holdTimer = undefined;
      if (!this.#isReadingPaused) this.resumeReading();
    }, ms);
  }

  get #isHeld(): boolean {
    return this.#holdTimer !== undefined;
  }

  get wantsFragments(): boolean {
    return this.#owner.wantsFragments && this.#facts.inspect === undefined;
  }

  onMessage(data: string | Buffer, wasFragmented?: boolean): void {
    if (this.#state !== 'open') return;
    const refused = this.#facts.inspect?.(data);
    if (refused) return this.#fail(refused);
    this.messagesReceived++;
    if (this.#facts.touchOnTraffic === 'message') this.#facts.session?.touch();
    this.#callbacks.push('message', data, wasFragmented);
  }

  onFragment(data: string | Buffer, last: boolean): void {
    if (this.#state !== 'open') return;
    if (last) this.messagesReceived++;
    if (this.#facts.touchOnTraffic === 'message') this.#facts.session?.touch();
    this.#callbacks.push('fragment', data, last);
  }

  onPing(payload: Buffer): void {
    if (this.#state !== 'open') return;
    this.outbox.pong(payload);
    if (this.#owner.hasCallback('ping')) this.#callbacks.push('ping', payload, undefined);
  }

  onPong(payload: Buffer): void {
    if (this.#state !== 'open' || payload.equals(HEARTBEAT)) return;
    if (this.#owner.hasCallback('pong')) this.#callbacks.push('pong', payload, undefined);
  }

  onCloseFrame(code: number, reason: string): void {
    const mine = this.#ending;
    if (this.#state === 'open') {
      this.isClosedByPeer = true;
      this.#beginClose({ code, reason, clean: true }, code === CloseCode.noStatus ? undefined : code);
    } else if (mine) this.#ending = { ...mine, clean: true };
    // RFC 6455 §7.1.1: the server is the one to end the TCP connection.
    this.#endTransport();
  }

  onProtocolError(error: HoldfastError): void {
    this.#fail(error);
    // RFC 6455 §7.1.7: after an error nothing more is expected from the peer.
    this.#endTransport();
  }

  // ---- what the callbacks need (CallbackTarget)

  invoke(kind: CallbackKind, value: unknown, extra: unknown): unknown {
    // The application hears nothing of a connection that it was never given, because the dispatch queue was full.
    if (kind === 'open') this.#isKnown = true;
    return this.#isKnown ? this.#owner.invoke(this, kind, value, extra) : undefined;
  }

  onCallbackPending(): void {
    const { handlerTimeoutMs } = this.#owner.limits;
    const deadline = this.#services.wheel.now + handlerTimeoutMs;
    this.#callbackDeadline = deadline;
    if (this.wheelSlot < 0 || this.wheelDue > deadline) this.#scheduleTimer();
  }

  onCallbackSettled(kind: CallbackKind): void {
    this.#callbackDeadline = undefined;
    if (kind === 'timeout' && this.#state === 'open') this.close(CloseCode.goingAway, 'idle timeout');
    if (kind !== 'close') return;
    // The last callback: until now it may have used the session.
    this.#releaseSession();
    this.#owner.onFinished(this);
  }

  onCallbackFailed(kind: CallbackKind, cause: unknown): void {
    const failure = toError(cause);
    this.#services.logger.error({ connection: this.id, callback: kind, err: failure }, 'a WebSocket callback failed');
    // For an error about an error, or after the end, there is no callback left.
    if (kind === 'error' || kind === 'close') return;
    const message = `the ${kind} callback failed: ${failure.message}`;
    const options = { cause: failure, closeCode: CloseCode.internalError };
    this.#giveUp(new HoldfastError('ERR_WS_HANDLER_FAILED', message, options));
  }

  onDispatchFull(): void {
    const message = 'the dispatch queue is full; raise its queue or concurrency, or wait instead';
    this.#giveUp(new HoldfastError('ERR_WS_DISPATCH_FULL', message, { closeCode: CloseCode.tryAgainLater }));
  }

  pauseReading(): void {
    this.#isReadingPaused = true;
    this.#takeAssembler().reader.pause();
    pauseReads(this.#transport);
  }

  resumeReading(): void {
    if (this.#state === 'gone') return;
    this.#isReadingPaused = false;
    this.#lastRead = this.#services.wheel.now;
    if (this.#isHeld || this.#inflating?.isWaiting) return;
    this.frameLimit?.takeBytes(0);
    this.outbox.cork();
    this.#assembler?.reader.resume();
    this.outbox.uncork();
    // What was left of the last chunk may have filled the queue again.
    if (!this.#isHeldUp) resumeReads(this.#transport);
  }

  /** We do not read: callbacks have to settle first, a message waits to be inflated, or the client has sent too much. */
  get #isHeldUp(): boolean {
    return this.#isReadingPaused || this.#isHeld || this.#inflating?.isWaiting === true;
  }

  // ---- what the turns of inflating need (InflateOwner)

  onInflateWait(): void {
    this.#assembler!.reader.pause();
    pauseReads(this.#transport);
  }

  onInflateTurn(): void {
    this.#assembler!.inflateWaiting();
    // It also writes what was sent for this message.
    if (!this.#isReadingPaused) this.resumeReading();
  }

  async onInflateAside(): Promise<void> {
    await this.#assembler!.inflateWaitingAside();
    this.#inflating!.leave();
    if (!this.#isReadingPaused) this.resumeReading();
  }

  // ---- what the outbox tells (OutboxOwner)

  onSlowReader(bufferedBytes: number): void {
    if (this.#state !== 'open') return;
    const message = `the peer has not read ${bufferedBytes} bytes`;
    this.#fail(new HoldfastError('ERR_WS_SLOW_READER', message, { closeCode: CloseCode.tryAgainLater }));
  }

  /** The peer was told what the store does not hold: it must not go on as if nothing had happened. */
  #onSessionNotSaved(cause: Error): void {
    const message = `changes to the session cannot be saved: ${cause.message}`;
    const options = { cause, closeCode: CloseCode.tryAgainLater };
    this.#fail(new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, options));
  }

  // ---- time

  /** Its user's credentials end, and nobody has shown others yet. */
  onAuthExpiring(until: number): void {
    if (this.#state === 'open' && this.#owner.hasCallback('auth-expiring'))
      this.#callbacks.push('auth-expiring', until, undefined);
  }

  onTimer(): void {
    const { now } = this.#services.wheel;
    if (now >= (this.#callbackDeadline ?? NEVER)) this.#onCallbackTimeout();
    if (now >= (this.#closeDeadline ?? NEVER)) return this.terminate();
    if (this.#state === 'open' && !this.#isTimingOut) this.#checkSilence(now);
    this.#scheduleTimer();
  }

  #checkSilence(now: number): void {
    const { heartbeatMs, idleTimeoutMs } = this.#owner.limits;
    // While we do not read, its silence is our doing. Nor do we see that it has gone, unless we write: then its system
    // says so. What it has sent too much of is not waited for then.
    if (this.#isHeld) {
      if (hasLeft(this.#transport)) this.terminate();
      else if (now - Math.max(this.#pingSentAt, this.#lastRead) >= heartbeatMs) this.#sendHeartbeat(now);
      return;
    }
    if (this.#isHeldUp) this.#lastRead = now;
    const silence = now - this.#lastSign;
    if (silence >= idleTimeoutMs) {
      this.#isTimingOut = true;
      this.#callbacks.push('timeout', undefined, undefined);
    } else if (silence >= heartbeatMs && this.#pingSentAt <= this.#lastRead) {
      this.#sendHeartbeat(now);
    }
  }

  #sendHeartbeat(now: number): void {
    this.#pingSentAt = now;
    this.#facts.frameLimit?.expectPong();
    this.outbox.control(Opcode.ping, HEARTBEAT);
  }

  /** The last sign of life. With a heartbeat the peer has to give one itself; without, what we send counts, too. */
  get #lastSign(): number {
    const hasHeartbeat = this.#owner.limits.heartbeatMs !== Number.POSITIVE_INFINITY;
    return hasHeartbeat ? this.#lastRead : Math.max(this.#lastRead, this.#lastWrite);
  }

  #scheduleTimer(): void {
    const { wheel } = this.#services;
    const { heartbeatMs, idleTimeoutMs } = this.#owner.limits;
    const { now } = wheel;
    let due = Math.min(this.#closeDeadline ?? NEVER, this.#callbackDeadline ?? NEVER);
    if (this.#state === 'open' && !this.#isTimingOut) {
      // The limits may be changed at any time, also from "never".
      due = Math.min(due, now + LONGEST_LOOK_AWAY_MS);
      const last = this.#isHeld ? now : this.#lastSign;
      due = Math.min(due, last + idleTimeoutMs, (this.#pingSentAt <= this.#lastRead ? last : now) + heartbeatMs);
    }
    wheel.schedule(this, Math.max(0, due - now));
  }

  #onCallbackTimeout(): void {
    const { handlerTimeoutMs } = this.#owner.limits;
    // What waits for its turn takes no time of its own; those before it have limits.
    if (this.#owner.isWaitingForThread(this)) return this.onCallbackPending();
    const { running } = this.#callbacks;
    this.#callbackDeadline = undefined;
    const message = `the ${running} callback has not settled after ${handlerTimeoutMs} ms; raise handlerTimeout`;
    const error = new HoldfastError('ERR_WS_HANDLER_TIMEOUT', message, { closeCode: CloseCode.internalError });
    // As with one that fails, there is no callback left for these.
    if (running === 'error' || running === 'close')
      this.#services.logger.error(
        { connection: this.id, callback: running, err: error },
        'a WebSocket callback was given up',
      );
    else this.#giveUp(error);
    this.#owner.onGivenUp(this);
    this.#callbacks.abandon();
  }

  // ---- ending

  /** Something is wrong: the application hears of it after what it was sent before, and the peer gets the code. */
  #fail(error: HoldfastError): void {
    if (this.#state !== 'open') return;
    const code = error.closeCode ?? CloseCode.internalError;
    const reason = error.code === 'ERR_POLICY_RATE' ? RATE_REASON : '';
    this.#beginClose({ code, reason, clean: false }, code);
    this.#report(error);
  }

  /**
   * The application has failed: it is not given what it has not seen yet, and hears of it also when the peer has gone
   * meanwhile.
   */
  #giveUp(error: HoldfastError): void {
    if (this.#state === 'open') this.#fail(error);
    else this.#report(error);
    this.#callbacks.clear();
  }

  #report(error: HoldfastError): void {
    const { code, closeCode } = error;
    const violation = closeCode !== undefined &&
      VIOLATIONS.has(closeCode) && {
        ...{ event: 'client-violation', address: this.#facts.remoteAddress, closeCode },
      };
    this.#services.logger.info({ ...violation, connection: this.id, code }, error.message);
    // Not at once: it may have been found out inside a send, or inside a broadcast to others.
    if (this.#owner.hasCallback('error')) this.#callbacks.pushLater('error', error);
  }

  /** Sends the close frame; `code` undefined sends an empty one. */
  #beginClose(ending: CloseEvent, code: number | undefined): void {
    this.#beginEnd(ending);
    this.outbox.close(code, code === undefined ? '' : ending.reason);
    this.#limitClosing();
  }

  /**
   * Ends our half after what was written. The peer has the close timeout to end its own, then the connection is cut.
   */
  #endTransport(): void {
    this.outbox.end();
    this.#limitClosing();
  }

  #limitClosing(): void {
    this.#closeDeadline = Math.min(
      this.#closeDeadline ?? NEVER,
      this.#services.wheel.now + this.#owner.limits.closeTimeoutMs,
    );
    this.#scheduleTimer();
  }

  #beginEnd(ending: CloseEvent | undefined): void {
    if (this.#state !== 'open') return;
    this.#state = 'closing';
    this.#ending = ending;
    if (this.#topics) for (const topic of this.#topics) this.#services.topics.unsubscribe(topic, this);
    this.#topics = undefined;
    this.#owner.onClosing(this);
    this.#abort?.abort();
    // A paused socket would not see the peer's close frame or end. Not at once: our close frame goes first.
    const isHeldUp = this.#isHeldUp;
    this.#facts.frameLimit?.clock.clearTimeout(this.#holdTimer);
    this.#holdTimer = undefined;
    this.#inflating?.leave();
    this.#assembler?.dropWaiting();
    if (isHeldUp) queueMicrotask(() => this.resumeReading());
  }

  #releaseSession(): void {
    this.#facts.session
      ?.release()
      .catch(error => this.#services.logger.error({ connection: this.id, err: error }, 'session not saved'));
  }

  #sendControl(opcode: number, payload: Uint8Array): boolean {
    if (this.#state !== 'open') return false;
    this.#lastWrite = this.#services.wheel.now;
    if (opcode === Opcode.ping) this.#facts.frameLimit?.expectPong();
    this.outbox.control(opcode, payload);
    return true;
  }
}

// Shared by all connections: a listener of its own for each would cost more memory than the connection.
function onRead(this: BoundTransport, length: number, buffer: Buffer): void {
  this[connectionOf].receive(buffer, length);
}

function onEnd(this: Duplex): void {
  (this as BoundTransport)[connectionOf].peerEnded();
}

function onError(this: Duplex, error: Error): void {
  (this as BoundTransport)[connectionOf].failed(error);
}

function onClose(this: Duplex): void {
  (this as BoundTransport)[connectionOf].gone();
}
