/**
 * An answer, or the promise of one: for calls so frequent that an answer that is there at once should cost no promise.
 */
export type Awaitable<T> = T | Promise<T>;

/** Goes on with an answer, at once when it is there. */
export function whenThere<T, U>(answer: Awaitable<T>, next: (answer: T) => Awaitable<U>): Awaitable<U> {
  return answer instanceof Promise ? answer.then(next) : next(answer);
}
