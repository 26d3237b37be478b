import type { Assembly } from './assembly/build.ts';
import { keepsMetrics } from './metrics/keeps-metrics.ts';

/** What a server has as long as it runs, whatever a reload says of it. */
export interface Lasting {
  readonly keepsMetrics: boolean;
  /** One of several processes: then it is for their supervisor to have new ones. */
  readonly isWorker: boolean;
}

/** Keys of a configuration that counts, of which something else holds until a restart. */
export function needsRestart({ config }: Pick<Assembly, 'config'>, lasting: Lasting): string[] {
  const keys = keepsMetrics(config) === lasting.keepsMetrics ? [] : ['metrics'];
  if (!lasting.isWorker && (config.workers ?? 1) !== 1) keys.push('workers');
  return keys;
}
