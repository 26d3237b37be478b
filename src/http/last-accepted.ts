const requests = new WeakSet<object>();

/**
 * The first request of a connection that was accepted just before its server began to stop. Its client cannot know of
 * that, and has nobody else to ask.
 */
export function markLastAccepted(request: object): void {
  requests.add(request);
}

export function isLastAccepted(request: object): boolean {
  return requests.has(request);
}
