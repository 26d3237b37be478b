import type { Size } from '../../base/size.ts';

/** How permessage-deflate (RFC 7692) is offered and answered. */
export interface DeflateOptions {
  /** Keep the window between messages: better ratio, up to 64 KiB more memory per connection. Default false. */
  contextTakeover?: boolean;
  /** Largest window we compress with, 9 to 15 bits. Default 15. */
  serverMaxWindowBits?: number;
  /** Largest window we ask the peer to compress with, 9 to 15 bits; only answered when the client offers it. Default 15. */
  clientMaxWindowBits?: number;
  /** Messages smaller than this are sent as they are. Default `1KiB`. */
  threshold?: Size;
  /** zlib level 0 to 9. Default 6. */
  level?: number;
}
