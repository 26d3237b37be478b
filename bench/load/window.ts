import { createInterface } from 'node:readline';
import { cpuTimeNs } from '../process-usage.ts';

export interface WindowOptions {
  /** The server under test. */
  pid: number;
  /** Other processes whose time counts as well. */
  alsoPids?: readonly number[];
  warmUpMs: number;
  measureMs: number;
  /**
   * Waits for a line with each turn's warm-up in ms, and answers with its result. Default: one turn, and the end. Both are
   * then times of the server's CPU: on a machine that others use, it does no less in a turn for that.
   */
  inTurns?: true;
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
  const pass = options.inTurns ? (ms: number) => used(options, ms, missing) : delay;
  await pass(options.warmUpMs);
  const before = { messages: messages(), cpuNs: cpuTimeOf(options), time: performance.now() };
  await pass(options.measureMs);
  const result = {
    messages: messages() - before.messages,
    cpuNs: cpuTimeOf(options) - before.cpuNs,
    elapsedMs: performance.now() - before.time,
  };
  if (result.messages === 0) throw new Error(`the server delivered nothing in the window: ${missing()}`);
  return result;
}

/**
 * Prints what came of one turn, and ends the process. With `inTurns` it waits for a line with each turn's warm-up in ms,
 * prints what came of that one, and ends with its standard input.
 */
export async function runTurns(
  options: WindowOptions,
  turn: (window: WindowOptions) => Promise<LoadResult>,
): Promise<void> {
  const print = (result: LoadResult, then?: () => void) => process.stdout.write(`${JSON.stringify(result)}\n`, then);
  if (!options.inTurns) return void print(await turn(options), () => process.exit());
  for await (const line of createInterface(process.stdin)) print(await turn({ ...options, warmUpMs: Number(line) }));
  process.exit();
}

/** Answers when `isDone` does, which it must within five seconds. */
export async function settle(isDone: () => boolean, missing: () => string): Promise<void> {
  const end = performance.now() + 5000;
  while (!isDone()) {
    if (performance.now() > end) throw new Error(`not all has arrived within 5 s: ${missing()}`);
    await delay(10);
  }
}

/** Resolves when the server has used so much CPU time. */
async function used(options: WindowOptions, ms: number, missing: () => string): Promise<void> {
  const enough = cpuTimeOf(options) + ms * 1e6;
  const end = performance.now() + 1000 + 100 * ms;
  while (cpuTimeOf(options) < enough) {
    if (performance.now() > end) throw new Error(`the server has hardly used its CPU: ${missing()}`);
    await delay(5);
  }
}

function cpuTimeOf({ pid, alsoPids = [] }: WindowOptions): number {
  return [pid, ...alsoPids].reduce((sum, each) => sum + cpuTimeNs(each), 0);
}

function delay(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}
