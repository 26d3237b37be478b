import type { ServerResponse } from 'node:http';
import { isHoldfastError } from '../../base/errors.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { RETRY_AFTER_S, type Refusal, refuse } from '../../http/refusal.ts';
import { appendPrivate, keepFromSharedCaches, mayHaveLinks } from '../../http/shared-caches.ts';
import { isSessionEnded } from '../record/state.ts';
import type { SessionBinding } from './binding.ts';

/**
 * Commits the session of a request around its response: what was changed before the head leaves, what is changed after
 * that before the response ends, and what is left when the client goes before either.
 */
export class ResponseCommit {
  readonly #binding: SessionBinding;
  readonly #response: ServerResponse;
  #committing: Promise<Refusal | undefined> | undefined;
  /** What its client learns from the head of the response, which leaves. */
  #told: readonly HeaderLine[] | undefined;
  #isClientGone = false;
  /** It could not be committed. That is not tried again: the client may ask again. */
  #refusal: Refusal | undefined;

  constructor(binding: SessionBinding, response: ServerResponse) {
    this.#binding = binding;
    this.#response = response;
    binding.followResponse();
    response.on('close', () => this.#onClose());
  }

  /**
   * Commits what was changed. Undefined: there is nothing to wait for. Never rejects.
   *
   * @returns a refusal to answer with when it cannot be committed, also because the session has ended meanwhile.
   */
  commit(): Promise<Refusal | undefined> | undefined {
    // What is on its way to the store is no news any more.
    if (this.#committing) return this.#committing.then(refusal => refusal ?? this.commit());
    if (this.#refusal) return Promise.resolve(this.#refusal);
    return this.isDue ? this.#commit() : undefined;
  }

  /** There is something to commit, or to tell the client. */
  get isDue(): boolean {
    return this.#isClientGone ? this.#binding.isDirty : this.#binding.hasNews;
  }

  /** Puts on the response what its client has to learn. To be called when its head leaves, after `commit`. */
  tell(): void {
    if (!this.#told) {
      if (isGone(this.#response)) return this.#noteGone();
      this.#told = this.#binding.responseHeaders();
      appendPrivate(this.#response, this.#told);
      if (this.#mayHoldTicket) keepFromSharedCaches(this.#response);
    }
    this.#binding.markHeadersSent();
  }

  /** Links of the answer may tell its client the ticket. */
  get #mayHoldTicket(): boolean {
    return this.#binding.mayTellByLinks && mayHaveLinks(String(this.#response.getHeader('Content-Type')));
  }

  /** What was put on the response has been removed with an answer that another takes the place of. */
  tellAgain(): void {
    appendPrivate(this.#response, this.#told ?? []);
  }

  /** `commit` and `tell`. */
  beforeHead(): Promise<Refusal | undefined> | undefined {
    if (this.#told) return undefined;
    const committing = this.commit();
    if (!committing) return void this.tell();
    return committing.then(refusal => {
      if (!refusal) this.tell();
      return refusal;
    });
  }

  /**
   * `beforeHead` where the head has not left, else commits what was changed since. When that fails the answer is cut
   * off, because it is too late for a status. The session cannot be used any more.
   */
  beforeEnd(): Promise<Refusal | undefined> | undefined {
    this.#binding.release();
    if (!this.#told) return this.beforeHead();
    if (!this.#binding.isDirty) return undefined;
    return this.#commit().then(refusal => void (refusal && this.#response.destroy()));
  }

  #commit(): Promise<Refusal | undefined> {
    this.#committing = this.#binding.commit().then(
      () => {
        this.#committing = undefined;
        return undefined;
      },
      error => {
        this.#committing = undefined;
        this.#refusal = this.#refuse(error);
        return this.#refusal;
      },
    );
    return this.#committing;
  }

  #refuse(error: unknown): Refusal {
    const code = isHoldfastError(error) ? error.code : 'ERR_SESSION_STORE_UNAVAILABLE';
    const status = (isHoldfastError(error) && error.status) || 503;
    this.#binding.withdraw();
    this.#binding.markHeadersSent();
    const so = this.#told ? ' after the response had begun; cutting it off' : `; answering ${status}`;
    const hasEnded = isSessionEnded(error);
    // Somebody has signed out in another window.
    this.#binding.logger[hasEnded ? 'info' : 'error']({ err: error }, `session could not be committed${so}`);
    return refuse(status, code, 'the session could not be committed', {
      headers: { 'Cache-Control': 'no-store', ...(status === 503 && { 'Retry-After': RETRY_AFTER_S }) },
      body: hasEnded
        ? 'The session has ended, and nothing was saved. Please sign in again.\n'
        : 'The session could not be saved. Please try again.\n',
    });
  }

  /** The client has gone, or has everything. */
  #onClose(): void {
    const binding = this.#binding;
    // Also by who has put on it what `responseHeaders` says.
    if (isHeadWritten(this.#response)) binding.markHeadersSent();
    this.#noteGone();
    if (!binding.isDirty || this.#committing || this.#refusal) return;
    binding.commit().catch(error => {
      if (!isSessionEnded(error))
        binding.logger.error({ err: error }, 'session could not be committed after its client had gone');
    });
  }

  #noteGone(): void {
    this.#isClientGone = true;
    this.#binding.markClientGone();
  }

  /** The answer could not be written: what its client should have learned from it, it has not. */
  withdraw(): void {
    if (!isHeadWritten(this.#response)) this.#binding.takeBack();
  }
}

/** Of a response itself `headersSent` is true as well while its head is held, until a session is stored. */
function isHeadWritten(response: ServerResponse): boolean {
  return Reflect.get(Object.getPrototypeOf(response) as object, 'headersSent', response) as boolean;
}

/** Known before its `close` is told. */
function isGone(response: ServerResponse): boolean {
  const { stream } = response as { stream?: { readonly destroyed: boolean } }; // of HTTP/2
  return response.destroyed || stream?.destroyed === true || response.socket?.destroyed === true;
}
