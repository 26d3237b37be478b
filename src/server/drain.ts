import { afterReading } from '../base/deadlines.ts';
import { CLIENT_GONE } from '../gateway/relay/declined-answer.ts';
import type { ServerLife } from './assembly/life.ts';
import { Spread } from './assembly/spread.ts';
import type { Listener } from './listen/listener.ts';

/** What clients and the log are told. */
export const STOPPING = 'server is stopping';

const CHECK_INTERVAL_MS = 20;
/** Many more than it takes: what never says that it is closed must not keep the server. */
const MAX_TURNS = 100;

export interface DrainTerms {
  /** How long it takes at most. */
  readonly limitMs: number;
  /** Over which time sockets are told to go. At most half of `limitMs` counts, so that they have time to answer. */
  readonly overMs: number;
  /** Another process goes on in its place: whoever comes back is served at once. */
  readonly isRestart: boolean;
}

/**
 * Empties a server: no new connections, then every socket is told to go (connections of endpoints with 1001, relays with
 * 1012; all of them with 1012 for a restart), spread over a time, so that the clients do not all come back at the same moment. What is still open at the end of
 * the time is cut, handshakes included. New handshakes, and those that come through meanwhile, are the intake's part.
 */
export class Drain {
  readonly #life: ServerLife;
  readonly #listeners: readonly Listener[];
  readonly #limitMs: number;
  readonly #spread: Spread;
  #end: number;

  constructor(life: ServerLife, listeners: readonly Listener[], { limitMs, overMs, isRestart }: DrainTerms) {
    const { clock, closeCodes, sockets } = life;
    this.#life = life;
    this.#listeners = listeners;
    this.#limitMs = limitMs;
    this.#end = clock.monotonic() + limitMs;
    const leaving = Array.from(limitMs > 0 ? sockets : [], socket => {
      const code = socket.kind === 'endpoint' && !isRestart ? closeCodes.goingAway : closeCodes.restart;
      return { close: () => socket.close(code, STOPPING) };
    });
    this.#spread = new Spread(clock, leaving, Math.min(overMs, limitMs / 2));
  }

  /** It is over at this time from now, if it was not to be before. */
  hurry(limitMs: number): void {
    this.#end = Math.min(this.#end, this.#life.clock.monotonic() + limitMs);
    this.#spread.hurry();
  }

  /** Resolves when every listener is closed. */
  async run(): Promise<void> {
    const { clock, endpoints, handshakes, sockets, lingering, unlogged } = this.#life;
    const ports = new Set(this.#listeners.map(({ port }) => port));
    const closed = Promise.all([...ports].map(port => port.close()));
    for (const listener of this.#listeners) listener.close();
    for (const listener of this.#listeners) listener.closeIdle();
    const isOver = () =>
      sockets.size === 0 && handshakes.size === 0 && [...endpoints].every(endpoint => endpoint.isEmpty);
    while (!isOver() && clock.monotonic() < this.#end) await this.#wait(Math.min(CHECK_INTERVAL_MS, this.#limitMs));
    // Those whose goodbye has arrived are not cut.
    await new Promise<void>(afterReading);
    for (const endpoint of endpoints) endpoint.terminateAll();
    for (const socket of sockets) socket.terminate();
    // Those that were waiting for `accept` have an answer now; the others wait for a store or a backend.
    await new Promise(resolve => setImmediate(resolve));
    for (const [socket, record] of handshakes) {
      socket.destroy();
      // Not when it is found out by what it waits for, which may answer after the process has ended.
      record.end(CLIENT_GONE);
    }

    let areClosed = false;
    const closing = closed.then(() => {
      areClosed = true;
    });
    while (!areClosed && clock.monotonic() < this.#end) {
      await Promise.race([closing, this.#wait(Math.min(CHECK_INTERVAL_MS, this.#end - clock.monotonic()))]);
      // A connection whose answer was under way is idle then, and nobody else would end it.
      for (const listener of this.#listeners) listener.closeIdle();
    }
    for (const listener of this.#listeners) listener.closeAll();
    for (const socket of lingering) socket.destroy();
    await closing;
    // Cut sockets say so in a later turn, and then their requests have their lines in the access log.
    for (let turn = 0; unlogged.size > 0 && turn < MAX_TURNS; turn++)
      await new Promise(resolve => setImmediate(resolve));
  }

  #wait(ms: number): Promise<void> {
    return new Promise(resolve => {
      this.#life.clock.setTimeout(resolve, Math.max(0, ms));
    });
  }
}
