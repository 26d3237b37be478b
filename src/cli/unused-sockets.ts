import { inheritedSockets } from '../server/listen/inherited.ts';
import type { LogControl } from '../server/log/log-control.ts';

/** Says of sockets that were handed over and that no listener has: their clients connect, and nobody serves them. */
export class UnusedSockets {
  readonly #logs: LogControl;
  /** Their descriptors. */
  #said = new Set<number>();

  constructor(logs: LogControl) {
    this.#logs = logs;
  }

  /** Each is said once, and again when a listener has had it meanwhile. */
  say(): void {
    const { untaken } = inheritedSockets();
    for (const { name, fd } of untaken)
      if (!this.#said.has(fd))
        this.#logs.uncounted.warn(
          { event: 'socket-unused', name, fd, part: 'cli' },
          `nobody is served on a socket that was handed over; name it under "listen": { activation: ${JSON.stringify(name)} }`,
        );
    this.#said = new Set(untaken.map(({ fd }) => fd));
  }
}
