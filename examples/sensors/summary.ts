export interface Reading {
  /** Milliseconds since the epoch; a device has no two readings of one time. */
  readonly at: number;
  readonly value: number;
}

/** What is kept of a device's readings. */
export interface Summary {
  /** The time of the last reading in it. */
  readonly last: number;
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
  readonly latest: number;
}

/** The summary with one more reading. One that comes again changes nothing: the device has not heard that it was taken. */
export function add(summary: Summary | undefined, { at, value }: Reading): Summary {
  if (!summary) return { last: at, count: 1, sum: value, min: value, max: value, latest: value };
  if (at <= summary.last) return summary;
  const { count, sum, min, max } = summary;
  return {
    last: at,
    count: count + 1,
    sum: sum + value,
    min: Math.min(min, value),
    max: Math.max(max, value),
    latest: value,
  };
}

export function isReading(data: unknown): data is Reading {
  const { at, value } = Object(data);
  return Number.isSafeInteger(at) && at > 0 && Number.isFinite(value);
}
