import { Rounds, type Waiting } from '../../base/rounds.ts';
import { REDIS_BYTES, type RedisArgument, type RedisClientLike, type RedisReply } from '../redis.ts';
import { withDeadline } from './deadline.ts';
import { NoAnswer, NotConnected, onFailure, unavailable } from './failures.ts';
import { RedisLink } from './link.ts';
import type { RedisNode } from './nodes.ts';

/** Each write has to reach this many replicas before it counts. */
export interface RedisAcknowledgement {
  /** At least 1. */
  readonly replicas: number;
  /** Milliseconds to wait for them. */
  readonly timeoutMs: number;
}

interface Write {
  readonly command: readonly RedisArgument[];
  readonly isAsking: boolean;
}

/**
 * Writes that wait for replicas, over a connection of their own: `WAIT` holds up everything behind it on its
 * connection, and counts what was written on that connection only.
 *
 * One `WAIT` serves all writes that have gathered while the one before was on its way.
 */
export class AcknowledgedWriter {
  readonly #address: string;
  readonly #acknowledge: RedisAcknowledgement;
  readonly #commandTimeoutMs: number;
  readonly #link: RedisLink;
  readonly #writes = new Rounds<Write, RedisReply>(round => this.#writeTogether(round));
  #hasConnected = false;

  /** @param prepare Before its connection is used. */
  constructor(
    node: RedisNode,
    acknowledge: RedisAcknowledgement,
    commandTimeoutMs: number,
    prepare: (client: RedisClientLike) => Promise<void>,
  ) {
    this.#address = node.address;
    this.#acknowledge = acknowledge;
    this.#commandTimeoutMs = commandTimeoutMs;
    this.#link = new RedisLink({ create: () => node.create(), timeoutMs: commandTimeoutMs, prepare });
  }

  /** @param command Whose reply begins with 1 when it has written. */
  write(command: readonly RedisArgument[], isAsking: boolean): Promise<RedisReply> {
    return this.#writes.add({ command, isAsking });
  }

  close(): void {
    this.#link.close();
  }

  async #writeTogether(writes: readonly Waiting<Write, RedisReply>[]): Promise<void> {
    const { replicas, timeoutMs } = this.#acknowledge;
    const client = this.#link.client ?? (await this.#connected());
    const replies = writes.map(({ item: { command, isAsking } }) => {
      if (isAsking) client.sendCommand(['ASKING']).catch(() => {});
      return client.sendCommand(command, REDIS_BYTES) as Promise<RedisReply>;
    });
    const settled = Promise.allSettled(replies);
    const waited = client.sendCommand(['WAIT', String(replicas), String(timeoutMs)]);
    try {
      const deadlineMs = this.#commandTimeoutMs + timeoutMs;
      const reached = Number(await withDeadline(waited, deadlineMs, () => new NoAnswer()));
      for (const [index, result] of (await settled).entries()) {
        const { resolve, reject } = writes[index]!;
        if (result.status === 'rejected') {
          onFailure(this.#link, client, result.reason);
          reject(result.reason);
        } else if (reached >= replicas || result.value[0] !== 1) {
          resolve(result.value);
        } else {
          reject(this.#notAcknowledged(reached));
        }
      }
    } catch (error) {
      onFailure(this.#link, client, error);
      throw error;
    }
  }

  /** The first write finds the connection still being made; later ones do not wait for one that is lost. */
  async #connected(): Promise<RedisClientLike> {
    if (this.#hasConnected) throw new NotConnected(this.#link.failure);
    try {
      const client = await this.#link.ready(this.#commandTimeoutMs);
      this.#hasConnected = true;
      return client;
    } catch (error) {
      throw new NotConnected(error);
    }
  }

  #notAcknowledged(reached: number): Error {
    const { replicas, timeoutMs } = this.#acknowledge;
    return unavailable(
      `written on the redis master at ${this.#address}, but acknowledged by ${reached} of the ${replicas} replicas asked for within ${timeoutMs} ms; check the replicas, or ask for fewer`,
    );
  }
}
