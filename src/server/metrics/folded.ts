import type { Aggregator, Sample } from './metric.ts';

/**
 * One sample for each set of labels, because a scrape with two of the same is refused as a whole: names beyond a bound share
 * one, and a listener may have two certificates for one name.
 */
export function folded(samples: Iterable<Sample>, aggregator: Aggregator): Sample[] {
  const byLabels = new Map<string, Sample>();
  for (const sample of samples) {
    const key = `${sample.metricName ?? ''} ${JSON.stringify(sample.labels)}`;
    const known = byLabels.get(key);
    byLabels.set(key, known ? { ...known, value: FOLD[aggregator](known.value, sample.value) } : sample);
  }
  return [...byLabels.values()];
}

const FOLD: Readonly<Record<Aggregator, (one: number, other: number) => number>> = {
  sum: (one, other) => one + other,
  min: Math.min,
  max: Math.max,
  first: one => one,
};
