/**
 * Calls a listener so that its failure disturbs neither the caller nor other listeners.
 *
 * @param onError Gets what it throws, or rejects with. Default: it is uncaught, as from an event emitter.
 */
export function callListener(call: () => unknown, onError: (error: unknown) => void = throwUncaught): void {
  try {
    const result = call();
    if (result instanceof Promise) result.catch(onError);
  } catch (error) {
    onError(error);
  }
}

function throwUncaught(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
