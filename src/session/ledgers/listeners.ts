import { callListener } from '../../base/call-listener.ts';
import { SetMap } from '../../base/set-map.ts';

type Listener = (message: string) => void;

/** Who listens to which channel, inside one process. */
export class Listeners {
  /** A subscription is an object of its own, so that one function may listen twice and stop once. */
  readonly #channels = new SetMap<string, { readonly listener: Listener }>();

  /** How many channels are listened to. */
  get size(): number {
    return this.#channels.size;
  }

  /** Returns the function that removes it: from then on it is not called, not even with what was about to be told. */
  add(channel: string, listener: Listener): () => void {
    const subscription = { listener };
    this.#channels.add(channel, subscription);
    return () => this.#channels.remove(channel, subscription);
  }

  /** Returns a function that tells the message to whoever listens now and still does then. */
  prepare(channel: string, message: string): () => void {
    const subscriptions = this.#channels.get(channel);
    const told = [...(subscriptions ?? [])];
    return () => {
      for (const subscription of told)
        if (subscriptions!.has(subscription)) callListener(() => subscription.listener(message));
    };
  }

  tell(channel: string, message: string): void {
    this.prepare(channel, message)();
  }

  clear(): void {
    for (const subscriptions of this.#channels.values()) subscriptions.clear();
    this.#channels.clear();
  }
}
