import { type Duration, parseDuration } from '../base/duration.ts';
import { parseSize } from '../base/size.ts';
import type { EndpointLimits, EndpointOptions, SlowReaderPolicy } from './endpoint-options.ts';

const DEFAULT_IDLE_TIMEOUT_MS = 30_000;
const LONGEST_DEFAULT_HEARTBEAT_MS = 20_000;

/**
 * The limits that options ask for, defaults included.
 *
 * @throws {TypeError} naming the option when a value is not a duration, a size, or a count.
 */
export function endpointLimits(options: Omit<EndpointOptions<unknown>, 'path'>): EndpointLimits {
  const maxMessageBytes = read('maxMessageSize', () => parseSize(options.maxMessageSize ?? '64KiB'));
  const idleTimeoutMs = duration('idleTimeout', options.idleTimeout, DEFAULT_IDLE_TIMEOUT_MS);
  // May be changed, but not extended: what is misspelled would be without effect.
  return Object.seal({
    maxMessageBytes,
    maxInflatedBytes: read('maxInflatedSize', () =>
      options.maxInflatedSize === undefined ? maxMessageBytes : parseSize(options.maxInflatedSize),
    ),
    maxFragments: count('maxFragments', options.maxFragments, 1024),
    idleTimeoutMs,
    heartbeatMs:
      options.heartbeat === false
        ? Number.POSITIVE_INFINITY
        : duration('heartbeat', options.heartbeat, Math.min(LONGEST_DEFAULT_HEARTBEAT_MS, (idleTimeoutMs * 2) / 3)),
    maxConnections: count('maxConnections', options.maxConnections, Number.POSITIVE_INFINITY),
    closeTimeoutMs: duration('closeTimeout', options.closeTimeout, 2_000),
    handlerTimeoutMs: duration('handlerTimeout', options.handlerTimeout, 60_000),
    maxBufferedBytes: read('maxBufferedAmount', () => parseSize(options.maxBufferedAmount ?? '1MiB')),
    slowReader: slowReader(options.slowReader ?? 'wait'),
  });
}

function slowReader(policy: SlowReaderPolicy): SlowReaderPolicy {
  if (['wait', 'drop', 'conflate', 'close'].includes(policy)) return policy;
  throw new TypeError(`slowReader: not a policy: ${JSON.stringify(policy)}; write wait, drop, conflate or close`);
}

function duration(name: string, value: Duration | undefined, byDefault: number): number {
  return value === undefined ? byDefault : read(name, () => parseDuration(value));
}

function count(name: string, value: number | undefined, byDefault: number): number {
  if (value === undefined) return byDefault;
  if (value === -1) return Number.POSITIVE_INFINITY;
  if (Number.isInteger(value) && value >= 0) return value;
  throw new TypeError(`${name}: not a count: ${value}; write a whole number, or -1 for no limit`);
}

function read<T>(name: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new TypeError(`${name}: ${(error as Error).message}`, { cause: error });
  }
}
