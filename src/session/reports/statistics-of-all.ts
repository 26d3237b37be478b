import { hostname } from 'node:os';
import { systemClock } from '../../base/clock.ts';
import { setDeadline } from '../../base/deadlines.ts';
import { randomId } from '../../base/ids.ts';
import type { Logger } from '../../base/logger.ts';
import type { Ledger } from '../ledger.ts';
import type { SessionStatistics } from './statistics.ts';
import { readStatistics, sumStatistics } from './sums.ts';

/** The counters of one process. */
export interface ProcessStatistics {
  /** Its machine's name. */
  readonly host: string;
  readonly pid: number;
  /** Since when it counts, in milliseconds since the epoch. */
  readonly since: number;
  readonly statistics: SessionStatistics;
}

/** The counters of the processes of one machine together. */
export interface MachineStatistics {
  readonly host: string;
  readonly processes: number;
  readonly sum: SessionStatistics;
}

/** The counters of all processes that share a ledger. */
export interface StatisticsOfAll {
  readonly sum: SessionStatistics;
  readonly machines: readonly MachineStatistics[];
  /** This one first. */
  readonly processes: readonly ProcessStatistics[];
  /** False when the ledger could not be asked through, or a process has not answered that has done so before. */
  readonly isComplete: boolean;
}

export interface StatisticsExchangeOptions {
  readonly ledger: Ledger;
  readonly logger: Logger;
  /** Only managers of the same one answer each other: several contexts may share a ledger. */
  readonly context: string;
  readonly now: () => number;
  readonly read: () => SessionStatistics;
}

const QUESTIONS = 'session-statistics';
/** So long after the question has gone round answers are waited for; those of a busy process come later. */
const WAIT_MS = 100;
/** Where the question is not heard here, or a process does not answer that has answered before. */
const LONGEST_WAIT_MS = 1_500;
/** No more of them than a person could read, and none that is larger than statistics are. */
const MAX_PROCESSES = 1_000;
const MAX_ANSWER_LENGTH = 64 * 1024;

interface Question {
  readonly id: string;
  readonly context: string;
}

interface Answer extends Omit<ProcessStatistics, 'statistics'> {
  readonly process: string;
  readonly statistics: unknown;
}

/**
 * Asks the other processes for their counters through the ledger, and answers them. Nothing is written or told as long
 * as nobody asks, and a process that has died does not answer.
 */
export class StatisticsExchange {
  readonly #options: StatisticsExchangeOptions;
  readonly #process: string = randomId(12);
  readonly #since: number;
  /** Who has answered the last question. */
  #known: ReadonlySet<string> = new Set();
  #asking: Promise<StatisticsOfAll> | undefined;
  #heard: (id: string) => void = () => {};
  /** With what ends it. */
  #listening: Promise<() => Promise<void>> | undefined;

  constructor(options: StatisticsExchangeOptions) {
    this.#options = options;
    this.#since = options.now();
  }

  /** Answers from now on. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE; then it may be tried again. */
  async listen(): Promise<void> {
    this.#listening ??= this.#options.ledger
      .subscribe(QUESTIONS, message => this.#onQuestion(message))
      .catch(error => {
        this.#listening = undefined;
        throw error;
      });
    await this.#listening;
  }

  async close(): Promise<void> {
    const unsubscribe = await this.#listening?.catch(() => {});
    await unsubscribe?.();
  }

  /** Never rejects: a ledger that cannot be reached leaves this process alone. */
  ask(): Promise<StatisticsOfAll> {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #ask(): Promise<StatisticsOfAll> {
    const answers = new Map<string, ProcessStatistics>();
    let isAsked = false;
    try {
      await this.listen();
      await this.#gather(answers);
      isAsked = true;
    } catch (error) {
      this.#options.logger.warn({ err: error }, 'the other processes could not be asked for their statistics');
    }
    const isComplete = isAsked && this.#known.isSubsetOf(new Set(answers.keys()));
    if (isAsked) this.#known = new Set(answers.keys());
    const processes = [this.#own(), ...answers.values()];
    const machines = Array.from(
      Map.groupBy(processes, ({ host }) => host),
      ([host, ofHost]) => ({ host, processes: ofHost.length, sum: sumOf(ofHost) }),
    );
    return { sum: sumOf(processes), machines, processes, isComplete };
  }

  async #gather(answers: Map<string, ProcessStatistics>): Promise<void> {
    const { ledger, context } = this.#options;
    const id = randomId(12);
    const { promise: isOver, resolve: finish } = Promise.withResolvers<void>();
    let isWaitOver = false;
    const finishIfAll = () => {
      if (isWaitOver && this.#known.isSubsetOf(new Set(answers.keys()))) finish();
    };
    const unsubscribe = await ledger.subscribe(answersTo(id), message => {
      const answer = parseAnswer(message);
      if (!answer || answer.process === this.#process || answers.size >= MAX_PROCESSES) return;
      const { process, host, pid, since, statistics } = answer;
      answers.set(process, { host, pid, since, statistics: readStatistics(statistics) });
      finishIfAll();
    });
    // Of running time: what has come while this process was busy is read before they are over.
    const deadlines = [setDeadline(systemClock, LONGEST_WAIT_MS, finish)];
    this.#heard = heard => {
      if (heard !== id) return;
      deadlines.push(
        setDeadline(systemClock, WAIT_MS, () => {
          isWaitOver = true;
          finishIfAll();
        }),
      );
    };
    try {
      await ledger.publish(QUESTIONS, JSON.stringify({ id, context } satisfies Question));
      await isOver;
    } finally {
      this.#heard = () => {};
      for (const deadline of deadlines) deadline?.clear();
      await unsubscribe().catch(() => {});
    }
  }

  #onQuestion(message: string): void {
    const { id, context } = (parse(message) ?? {}) as Partial<Question>;
    if (typeof id !== 'string' || context !== this.#options.context) return;
    this.#heard(id);
    const answer: Answer = { process: this.#process, ...this.#own() };
    this.#options.ledger.publish(answersTo(id), JSON.stringify(answer)).catch(error => {
      this.#options.logger.warn({ err: error }, 'the statistics of this process were not told to another');
    });
  }

  #own(): ProcessStatistics {
    return { host: hostname(), pid: process.pid, since: this.#since, statistics: this.#options.read() };
  }
}

function sumOf(processes: readonly ProcessStatistics[]): SessionStatistics {
  return sumStatistics(processes.map(({ statistics }) => statistics));
}

function answersTo(id: string): string {
  return `${QUESTIONS} ${id}`;
}

function parseAnswer(message: string): Answer | undefined {
  if (message.length > MAX_ANSWER_LENGTH) return undefined;
  const { process, host, pid, since, statistics } = (parse(message) ?? {}) as Partial<Answer>;
  if (typeof process !== 'string' || typeof host !== 'string' || !Number.isFinite(pid) || !Number.isFinite(since))
    return undefined;
  return { process, host, pid: pid!, since: since!, statistics };
}

/** Of a version that speaks otherwise it may be anything. */
function parse(message: string): unknown {
  try {
    return JSON.parse(message);
  } catch {
    return undefined;
  }
}
