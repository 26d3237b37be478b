import { type BroadcastResult, broadcast } from './broadcast.ts';
import type { EndpointConnection } from './endpoint-connection.ts';
import { checkTopic } from './protocol/outgoing.ts';

type Subscriber = EndpointConnection<unknown>;

const NOBODY: ReadonlySet<Subscriber> = new Set();

/** Who listens to what, in this process. A topic exists as long as it has a subscriber. */
export class Topics {
  readonly #subscribers = new Map<string, Set<Subscriber>>();

  subscribe(topic: string, connection: Subscriber): void {
    const subscribers = this.#subscribers.get(topic);
    if (subscribers) subscribers.add(connection);
    else this.#subscribers.set(topic, new Set([connection]));
  }

  unsubscribe(topic: string, connection: Subscriber): void {
    const subscribers = this.#subscribers.get(topic);
    if (subscribers?.delete(connection) && subscribers.size === 0) this.#subscribers.delete(topic);
  }

  publish(topic: string, data: string | Uint8Array, except?: Iterable<object> | object): BroadcastResult {
    checkTopic('publish', topic);
    return broadcast('publish', this.#subscribers.get(topic) ?? NOBODY, data, except);
  }

  /** How many connections listen to the topic. */
  count(topic: string): number {
    return this.#subscribers.get(topic)?.size ?? 0;
  }
}
