import type { Duplex } from 'node:stream';
import { type Refusal, refuse } from '../http/refusal.ts';
import { CloseCode } from '../wire/close-codes.ts';
import { type TimerWheel, WheelEntry } from './timer-wheel.ts';

/**
 * A handshake that `accept` has not answered yet. It is given up when the client goes away, when the time is over, or
 * when the server stops, so that an `accept` that never answers holds nothing for ever.
 */
export class PendingHandshake extends WheelEntry {
  /** Settles only when the handshake is given up. */
  readonly refused: Promise<Refusal>;
  readonly #transport: Duplex;
  readonly #wheel: TimerWheel;
  readonly #resolve: (refusal: Refusal) => void;

  constructor(transport: Duplex, wheel: TimerWheel, timeoutMs: number) {
    super();
    const { promise, resolve } = Promise.withResolvers<Refusal>();
    this.refused = promise;
    this.#resolve = resolve;
    this.#transport = transport;
    this.#wheel = wheel;
    transport.on('end', this.#onClientGone).on('close', this.#onClientGone);
    wheel.schedule(this, timeoutMs);
  }

  giveUp(refusal: Refusal): void {
    this.#resolve(refusal);
  }

  /** It is answered. */
  end(): void {
    this.#transport.off('end', this.#onClientGone).off('close', this.#onClientGone);
    this.#wheel.cancel(this);
  }

  onTimer(): void {
    this.giveUp(
      refuse(503, 'ERR_WS_HANDLER_TIMEOUT', 'accept has not answered in time; raise handlerTimeout', {
        closeCode: CloseCode.tryAgainLater,
      }),
    );
  }

  readonly #onClientGone = (): void => {
    this.giveUp(refuse(400, 'ERR_WS_CONNECTION_LOST', 'the client went away before accept had answered'));
  };
}
