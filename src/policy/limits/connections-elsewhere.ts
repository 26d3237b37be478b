/** What one process has said of one key, and in which of its accounts. */
interface Said {
  readonly count: number;
  readonly account: number;
}

interface Process {
  readonly said: Map<string, Said>;
  heardAt: number;
}

/** Keys of one process that are kept: who would say more, has more clients than anybody counts here. */
const MAX_KEYS = 65_536;
const MAX_PROCESSES = 256;

/** The connections that other processes have, by what they say. Times are monotonic milliseconds. */
export class ConnectionsElsewhere {
  readonly #silentMs: number;
  readonly #processes = new Map<string, Process>();
  readonly #sums = new Map<string, number>();

  /** @param silentMs After which a process that says nothing has none. */
  constructor(silentMs: number) {
    this.#silentMs = silentMs;
  }

  of(key: string, now: number): number {
    for (const [id, { heardAt }] of this.#processes) if (now - heardAt > this.#silentMs) this.forget(id);
    return this.#sums.get(key) ?? 0;
  }

  set(id: string, key: string, said: Said, now: number): void {
    const process = this.#hear(id, now);
    if (!process || (!process.said.has(key) && process.said.size >= MAX_KEYS)) return;
    this.#put(process, key, said);
  }

  /** What was not said again is no more. */
  endAccount(id: string, account: number, now: number): void {
    const process = this.#hear(id, now);
    if (!process) return;
    for (const [key, said] of process.said) if (said.account < account) this.#put(process, key, { count: 0, account });
  }

  forget(id: string): void {
    const process = this.#processes.get(id);
    if (!process) return;
    for (const key of process.said.keys()) this.#put(process, key, { count: 0, account: 0 });
    this.#processes.delete(id);
  }

  #hear(id: string, now: number): Process | undefined {
    const known = this.#processes.get(id);
    if (known) known.heardAt = now;
    if (known || this.#processes.size >= MAX_PROCESSES) return known;
    const process = { said: new Map(), heardAt: now };
    this.#processes.set(id, process);
    return process;
  }

  #put(process: Process, key: string, said: Said): void {
    const sum = (this.#sums.get(key) ?? 0) - (process.said.get(key)?.count ?? 0) + said.count;
    if (sum > 0) this.#sums.set(key, sum);
    else this.#sums.delete(key);
    if (said.count > 0) process.said.set(key, said);
    else process.said.delete(key);
  }
}
