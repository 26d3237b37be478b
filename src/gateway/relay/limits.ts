/** What a relayed WebSocket is held to. */
export interface RelayLimits {
  /** Payload of one message on the wire, in either direction; larger: 1009. */
  readonly maxMessageBytes: number;
  /**
   * Time without a relayed frame in either direction after which both sides are closed with 1001; our own pings do not
   * count.
   */
  readonly idleTimeoutMs: number;
  /** Silence of a side after which we ping it; `Infinity` never. Default 25 s. A side that does not answer is lost. */
  readonly heartbeatMs?: number;
  /** Age at which both sides are closed with 1001, whatever they do. Default `Infinity`. */
  readonly maxLifetimeMs?: number;
  /**
   * `end-to-end` (default): client and backend agree on permessage-deflate. `refuse`: the backend is not offered it.
   */
  readonly compression?: 'end-to-end' | 'refuse';
}
