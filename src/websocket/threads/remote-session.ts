import { kindOf } from '../../base/options.ts';
import { decodeValue } from '../../session/record/decoder.ts';
import { encodeValue } from '../../session/record/encoder.ts';
import { checkNames, keepsOnlyWhatIsSet, scopeOf } from '../../session/record/handle.ts';
import type { Session, SessionEndReason, SessionOwner } from '../../session/session.ts';
import type { ConnectionInThread } from './messages.ts';
import type { RunningCallback } from './running-callback.ts';

interface Decoded {
  readonly bytes: Uint8Array;
  readonly value: unknown;
  /** It must not be given to two readers. */
  readonly isOwn: boolean;
}

/**
 * The session of a connection as the callback that runs here has it. Values cross in the form in which they are stored,
 * so that this thread needs the classes of those that it reads, and the main thread none.
 */
export class RemoteSession {
  readonly #callback: RunningCallback;
  readonly #facts: NonNullable<ConnectionInThread['session']>;
  /** As they were read before; the main thread says whether they still are so. */
  readonly #decoded = new Map<string, Decoded>();

  constructor(callback: RunningCallback, facts: NonNullable<ConnectionInThread['session']>) {
    this.#callback = callback;
    this.#facts = facts;
  }

  /** As applications see it: here keys are any texts, and values any values. */
  get session(): Session {
    return this as unknown as Session;
  }

  get id(): string {
    return this.#facts.id;
  }

  get isNew(): unknown {
    return this.#callback.now('read', ['isNew']);
  }

  get createdAt(): unknown {
    return this.#callback.now('read', ['createdAt']);
  }

  get lastAccessedAt(): unknown {
    return this.#callback.now('read', ['lastAccessedAt']);
  }

  get owner(): unknown {
    return this.#callback.now('read', ['owner']);
  }

  get idleTimeoutMs(): unknown {
    return this.#callback.now('read', ['idleTimeoutMs']);
  }

  set idleTimeoutMs(value: number) {
    this.#callback.now('setIdleTimeout', [value]);
  }

  get(key: string): unknown {
    const answer = this.#callback.now('get', [key]);
    if (answer === undefined) return undefined;
    const before = this.#decoded.get(key);
    if (answer === 'as before' && before && !before.isOwn) return before.value;
    const bytes = answer === 'as before' ? before!.bytes : answer.bytes;
    // Also when it cannot be decoded here: the main thread does not send it again.
    this.#decoded.set(key, { bytes, value: undefined, isOwn: true });
    const { value, hasBytes } = decodeValue(bytes, key);
    if (!hasBytes) this.#decoded.set(key, { bytes, value, isOwn: false });
    return value;
  }

  async load(keys: string | readonly string[]): Promise<unknown> {
    const names = typeof keys === 'string' ? [keys] : checkNames(keys);
    await this.#callback.later('fetch', [names]);
    const values = names.map(name => this.get(name));
    return typeof keys === 'string' ? values[0] : values;
  }

  set(key: string, value: unknown): void {
    if (value === undefined) return this.delete(key);
    this.#callback.now('set', [key, this.#encode(key, value)]);
  }

  async update(key: string, change: (current: unknown) => unknown): Promise<unknown> {
    if (typeof change !== 'function')
      throw new TypeError(`update: it takes a function from the old value to the new one, not ${kindOf(change)}`);
    let thrown: { readonly error: unknown } | undefined;
    try {
      const written = await this.#callback.later('update', [key], before => {
        try {
          const next = change(before && decodeValue(before, key).value);
          return next === undefined ? undefined : this.#encode(key, next);
        } catch (error) {
          thrown = { error };
          throw error;
        }
      });
      return written && decodeValue(written, key).value;
    } catch (error) {
      // What was thrown here comes back as a copy.
      throw thrown ? thrown.error : error;
    }
  }

  delete(key: string): void {
    this.#callback.now('delete', [key]);
  }

  has(key: string): boolean {
    return this.#callback.now('has', [key]);
  }

  keys(): string[] {
    return this.#callback.now('keys', []);
  }

  scope(prefix: string): object {
    return scopeOf(this, prefix);
  }

  async sync(): Promise<void> {
    await this.#callback.later('sync', []);
  }

  async renew(options?: { readonly owner?: SessionOwner }): Promise<void> {
    await this.#callback.later('renew', [options]);
  }

  async invalidate(reason?: SessionEndReason): Promise<void> {
    await this.#callback.later('invalidate', [reason]);
  }

  #encode(key: string, value: unknown): Uint8Array {
    return encodeValue(key, value, this.#facts.maxAttributeBytes);
  }
}

keepsOnlyWhatIsSet(RemoteSession);
