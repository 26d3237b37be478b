import { cpuTimeNs } from '../process-usage.ts';

export interface WindowOptions {
  /** The server under test. */
  pid: number;
  /** Other processes whose time counts as well. */
  alsoPids?: readonly number[];
  warmUpMs: number;
  measureMs: number;
}

/** What a load module prints. */
export interface LoadResult {
  /** Messages the server delivered in the window, each compared with what was expected. */
  messages: number;
  /** CPU time the server used in the window. */
  cpuNs: number;
  elapsedMs: number;
}

/**
 * Lets the load run for its warm-up, and then counts over one window what the server delivered and what it used for
 * that.
 *
 * @param missing Says what is being waited for, when nothing was delivered.
 */
export async function measureWindow(
  options: WindowOptions,
  messages: () => number,
  missing: () => string,
): Promise<LoadResult> {
  await delay(options.warmUpMs);
  const before = { messages: messages(), cpuNs: cpuTimeOf(options), time: performance.now() };
  await delay(options.measureMs);
  const result = {
    messages: messages() - before.messages,
    cpuNs: cpuTimeOf(options) - before.cpuNs,
    elapsedMs: performance.now() - before.time,
  };
  if (result.messages === 0) throw new Error(`the server delivered nothing in the window: ${missing()}`);
  return result;
}

/** Answers when `isDone` does, which it must within five seconds. */
export async function settle(isDone: () => boolean, missing: () => string): Promise<void> {
  const end = performance.now() + 5000;
  while (!isDone()) {
    if (performance.now() > end) throw new Error(`not all has arrived within 5 s: ${missing()}`);
    await delay(10);
  }
}

function cpuTimeOf({ pid, alsoPids = [] }: WindowOptions): number {
  return [pid, ...alsoPids].reduce((sum, each) => sum + cpuTimeNs(each), 0);
}

function delay(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}
