import { type Duration, parseDuration } from '../../base/duration.ts';
import { parseSize, type Size } from '../../base/size.ts';

/** How a WebSocket is relayed to an upstream. Times are up to 200 ms late, never early. */
export interface WebSocketRouteConfig {
  /**
   * Time without a frame in either direction, pings of our own not counted; then 1001 to both sides. Default `10m`; -1
   * never.
   */
  idleTimeout?: Duration;
  /** Silence of a side after which we ping it; without an answer within 10 s it is lost. Default `25s`; -1 never. */
  heartbeat?: Duration;
  /** Age at which both sides are closed with 1001, whatever they do. Default -1: never. */
  maxLifetime?: Duration;
  /** Largest message in bytes on the wire, compressed or not; larger: 1009. Default `64KiB`; -1 no limit. */
  maxMessageSize?: Size;
  /**
   * `end-to-end` (default): client and backend agree on permessage-deflate. `refuse`: messages pass uncompressed, and
   * their size is what counts.
   */
  compression?: 'end-to-end' | 'refuse';
}

/** The same in the units of the relay; times without end are `Infinity`. */
export interface RelayLimits {
  readonly idleTimeoutMs: number;
  readonly heartbeatMs: number;
  readonly maxLifetimeMs: number;
  readonly maxMessageBytes: number;
  readonly compression: 'end-to-end' | 'refuse';
}

export function relayLimits(config: WebSocketRouteConfig = {}): RelayLimits {
  return {
    idleTimeoutMs: parseDuration(config.idleTimeout ?? '10m'),
    heartbeatMs: parseDuration(config.heartbeat ?? '25s'),
    maxLifetimeMs: parseDuration(config.maxLifetime ?? -1),
    maxMessageBytes: parseSize(config.maxMessageSize ?? '64KiB'),
    compression: config.compression ?? 'end-to-end',
  };
}
