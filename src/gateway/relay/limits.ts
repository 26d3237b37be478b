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
  /**
   * Largest message of the client in bytes on the wire, compressed or not; larger: 1009, with the limit and its name as
   * the reason. Default `64KiB`; -1 no limit.
   */
  maxMessageSize?: Size;
  /**
   * The same for messages of the backend, which both sides are told of. No more than about 16 KiB of a message is held at a
   * time. Default `1MiB`, or `maxMessageSize` where that is larger; -1 no limit.
   */
  maxBackendMessageSize?: Size;
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
  readonly maxBackendMessageBytes: number;
  readonly compression: 'end-to-end' | 'refuse';
}

/** What a backend sends is its own, and is passed on as it comes: most servers take and send as much by default. */
const DEFAULT_BACKEND_BYTES = 1024 * 1024;

export function relayLimits(config: WebSocketRouteConfig = {}): RelayLimits {
  const maxMessageBytes = parseSize(config.maxMessageSize ?? '64KiB');
  return {
    idleTimeoutMs: parseDuration(config.idleTimeout ?? '10m'),
    heartbeatMs: parseDuration(config.heartbeat ?? '25s'),
    maxLifetimeMs: parseDuration(config.maxLifetime ?? -1),
    maxMessageBytes,
    maxBackendMessageBytes:
      config.maxBackendMessageSize === undefined
        ? Math.max(DEFAULT_BACKEND_BYTES, maxMessageBytes)
        : parseSize(config.maxBackendMessageSize),
    compression: config.compression ?? 'end-to-end',
  };
}
