import type { OfWorker } from '../../admin/merge.ts';
import type { MetricJson } from '../metrics/exposition.ts';
import { folded } from '../metrics/folded.ts';

type Metrics = readonly MetricJson[];

/**
 * The metrics of all workers. A total never goes back: what a worker had counted stays in it when the worker has ended,
 * as far as it was asked, and while it does not answer.
 */
export class WorkerMetrics {
  readonly #last = new Map<number, Metrics>();
  /** Of those that have ended, by the name. */
  readonly #ended = new Map<string, MetricJson>();

  /**
   * @param answers Of those that have answered this time.
   * @param running The numbers of all that run.
   * @returns what is to be put together.
   */
  read(answers: readonly OfWorker<Metrics>[], running: ReadonlySet<number>): readonly Metrics[] {
    for (const { worker, answer } of answers) this.#last.set(worker, answer);
    for (const [worker, metrics] of this.#last) {
      if (running.has(worker)) continue;
      this.#last.delete(worker);
      for (const metric of metrics) this.#keep(metric);
    }
    const ended = [...this.#ended.values()];
    return ended.length === 0 ? [...this.#last.values()] : [...this.#last.values(), ended];
  }

  #keep(metric: MetricJson): void {
    const { name, type, values } = metric;
    if (type !== 'counter' && type !== 'histogram') return;
    const known = this.#ended.get(name)?.values ?? [];
    this.#ended.set(name, { ...metric, values: folded([...known, ...values], 'sum') });
  }
}
