import { checkOptions } from '../../base/options.ts';
import { deepFreeze } from '../../session/record/deep-freeze.ts';
import type { DeepReadonly, Session } from '../../session/session.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import { BROADCAST_OPTIONS, type BroadcastResult } from '../broadcast.ts';
import { type User, userFrom } from '../handshake.ts';
import { checkClose, checkData, checkTopic, controlPayload } from '../protocol/outgoing.ts';
import type { ConnectionInThread } from './messages.ts';
import { RemoteSession } from './remote-session.ts';
import type { RunningCallback } from './running-callback.ts';
import type { ThreadConnection, ThreadEndpoint } from './thread-connection.ts';

interface Kept<Data> {
  readonly data: DeepReadonly<Data>;
}

/** A connection of the main thread as the callback that runs here has it. */
export class RemoteConnection<Data> implements ThreadConnection<Data> {
  readonly #callback: RunningCallback;
  readonly #facts: ConnectionInThread;
  readonly endpoint: ThreadEndpoint;
  #session: RemoteSession | undefined;
  #kept: Kept<Data> | undefined;

  constructor(callback: RunningCallback, facts: ConnectionInThread) {
    this.#callback = callback;
    this.#facts = facts;
    this.#session = facts.session && new RemoteSession(callback, facts.session);
    this.endpoint = { ...facts.endpoint, broadcast: (data, options) => this.#broadcast(data, options) };
  }

  get id(): string {
    return this.#facts.id;
  }

  get isOpen(): boolean {
    return !this.#callback.isAborted;
  }

  get isSecure(): boolean {
    return this.#facts.isSecure;
  }

  get user(): User | undefined {
    return this.#facts.user && userFrom(this.#facts.user);
  }

  get session(): Session | undefined {
    return this.#session?.session;
  }

  get data(): DeepReadonly<Data> {
    this.#kept ??= this.#keep(this.#callback.now('data', []));
    return this.#kept.data;
  }

  set data(data: DeepReadonly<Data>) {
    this.#callback.now('setData', [data]);
    this.#kept = this.#keep(structuredClone(data));
  }

  get remoteAddress(): string {
    return this.#facts.remoteAddress;
  }

  get remotePort(): number {
    return this.#facts.remotePort;
  }

  get url(): URL {
    return new URL(this.#facts.url);
  }

  get params(): Readonly<Record<string, string>> {
    return this.#facts.params;
  }

  get subprotocol(): string {
    return this.#facts.subprotocol;
  }

  get bufferedAmount(): number {
    return this.#callback.now('bufferedAmount', []);
  }

  get droppedMessages(): number {
    return this.#callback.now('droppedMessages', []);
  }

  get signal(): AbortSignal {
    return this.#callback.signal;
  }

  send(data: string | Uint8Array): boolean {
    checkData('send', data);
    return this.#callback.now('send', ...copied(data));
  }

  drained(): Promise<void> {
    return this.#callback.later('drained', []);
  }

  stream(chunk: string | Uint8Array, last: boolean): boolean {
    checkData('stream', chunk);
    const [[copy], transfer] = copied(chunk);
    return this.#callback.now('stream', [copy, last], transfer);
  }

  ping(data: string | Uint8Array = ''): boolean {
    return this.#callback.now('ping', ...copied(controlPayload('ping', data)));
  }

  pong(data: string | Uint8Array = ''): boolean {
    return this.#callback.now('pong', ...copied(controlPayload('pong', data)));
  }

  close(code: number = CloseCode.normal, reason = ''): void {
    checkClose(code, reason);
    this.#callback.now('close', [code, reason]);
  }

  terminate(): void {
    this.#callback.now('terminate', []);
  }

  subscribe(topic: string): void {
    checkTopic('subscribe', topic);
    this.#callback.now('subscribe', [topic]);
  }

  unsubscribe(topic: string): void {
    checkTopic('unsubscribe', topic);
    this.#callback.now('unsubscribe', [topic]);
  }

  publish(topic: string, data: string | Uint8Array, options: { readonly except?: object } = {}): BroadcastResult {
    checkTopic('publish', topic);
    checkData('publish', data);
    const isForOthers = this.#isForOthers('publish', options);
    const [[copy], transfer] = copied(data);
    return this.#callback.now('publish', [topic, copy, isForOthers], transfer);
  }

  #broadcast(data: string | Uint8Array, options: { readonly except?: object } = {}): BroadcastResult {
    checkData('broadcast', data);
    const isForOthers = this.#isForOthers('broadcast', options);
    const [[copy], transfer] = copied(data);
    return this.#callback.now('broadcast', [copy, isForOthers], transfer);
  }

  /** @throws {TypeError} for another connection: a thread has no other. */
  #isForOthers(call: string, options: { readonly except?: object }): boolean {
    checkOptions(call, options, BROADCAST_OPTIONS);
    if (options.except === undefined) return false;
    if (options.except === this) return true;
    throw new TypeError(
      `${call}: in a thread "except" can only be the connection of the callback; leave it out for none`,
    );
  }

  #keep(data: unknown): Kept<Data> {
    deepFreeze(data);
    return { data: data as DeepReadonly<Data> };
  }
}

/** With a buffer of its own, which is given away: of what is a part of a buffer, the whole would be copied. */
function copied(data: string | Uint8Array): [[string | Uint8Array], ArrayBuffer[]] {
  if (typeof data === 'string') return [[data], []];
  const copy = new Uint8Array(data);
  return [[copy], [copy.buffer]];
}
