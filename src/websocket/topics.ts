import { SetMap } from '../base/set-map.ts';
import { type BroadcastResult, broadcast, type Recipient } from './broadcast.ts';
import { checkTopic } from './protocol/outgoing.ts';

const NOBODY: ReadonlySet<Recipient> = new Set();

/** Who listens to what, in this process. A topic exists as long as it has a subscriber. */
export class Topics {
  readonly #subscribers = new SetMap<string, Recipient>();

  get size(): number {
    return this.#subscribers.size;
  }

  subscribe(topic: string, connection: Recipient): void {
    this.#subscribers.add(topic, connection);
  }

  unsubscribe(topic: string, connection: Recipient): void {
    this.#subscribers.remove(topic, connection);
  }

  /** How many subscribe to each topic. */
  *sizes(): Generator<readonly [topic: string, subscribers: number]> {
    for (const [topic, subscribers] of this.#subscribers) yield [topic, subscribers.size];
  }

  publish(topic: string, data: string | Uint8Array, except?: Iterable<object> | object): BroadcastResult {
    checkTopic('publish', topic);
    return broadcast('publish', this.#subscribers.get(topic) ?? NOBODY, data, except);
  }
}
