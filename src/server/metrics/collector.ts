import type { Assembly } from '../assembly/build.ts';
import type { Listener } from '../listen/listener.ts';
import { type MetricJson, metricsJson } from './exposition.ts';
import { GrowingTotals } from './growing-totals.ts';
import { ServerMeters } from './meters.ts';
import { sessionSource } from './session-metrics.ts';
import { takeCensus } from './socket-census.ts';
import { upstreamSources } from './upstream-metrics.ts';

/** What of a server is read for its metrics. */
export interface Measured {
  readonly assembly: Assembly;
  readonly listeners: readonly Listener[];
}

/** The metrics of a server, through all its reloads. */
export class MetricsCollector {
  readonly meters = new ServerMeters();
  readonly #totals = new GrowingTotals();
  readonly #startedAt = Date.now();

  /**
   * Takes in what the parts of an assembly have counted. To be called before a reload replaces some of them, or what
   * they count from the last scrape to their end may be lost.
   */
  absorb({ upstreams, openManagers }: Assembly): void {
    this.#totals.absorb([
      ...[...upstreams.values()].flatMap(upstreamSources),
      ...Array.from(openManagers, sessionSource),
    ]);
  }

  async json({ assembly, listeners }: Measured): Promise<MetricJson[]> {
    this.absorb(assembly);
    const counts = await Promise.all(listeners.map(({ port }) => port.connections()));
    const connections = counts.reduce((sum, count) => sum + count, 0);
    const { meters } = this;
    const totals = this.#totals;
    const census = takeCensus(assembly.sockets, meters);
    return metricsJson({ assembly, listeners, meters, totals, census, connections, startedAt: this.#startedAt });
  }
}
