const MAX_TTL_MS = 400 * 86_400_000;

/** @throws {TypeError} unless it is more than 0 ms and at most 400 days. */
export function checkTimeToLive(ttlMs: number): void {
  if (ttlMs > 0 && ttlMs <= MAX_TTL_MS) return;
  throw new TypeError(`ledger: a time to live is more than 0 and at most ${MAX_TTL_MS} ms (400 days), not ${ttlMs}`);
}

/** @throws {TypeError} unless it is an integer that counts exactly. */
export function checkIncrement(by: number): void {
  if (Number.isSafeInteger(by)) return;
  throw new TypeError(`ledger: a counter is incremented by an integer, not by ${by}`);
}
