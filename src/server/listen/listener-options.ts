import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { Config } from '../../config/config.ts';
import type { AddressList } from '../../http/address-list.ts';
import type { SecurityEvents } from '../../policy/security-events.ts';
import type { Doorkeeper } from './doorkeeper.ts';
import type { Newcomers } from './newcomers.ts';

/** What every listener of a server needs. */
export interface ListenerOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly trustedProxies: AddressList;
  /** Default: everybody is let in. */
  readonly doorkeeper?: Doorkeeper | undefined;
  /** Of all listeners that are held to the same limits. */
  readonly newcomers: Newcomers;
  readonly security: SecurityEvents;
  /** Left out: nothing is counted. */
  readonly meters?: ListenerMeters | undefined;
  /** Closes the WebSockets of client certificates, by their SHA-256, that do not count any more. */
  withdrawCertificates(fingerprints: ReadonlySet<string>, reason: string): void;
}

/** What listeners count. */
export interface ListenerMeters {
  connectionsAccepted: number;
  readonly tls: { completed: number; failed: number; timeout: number };
}

/** What connections are held to before they carry a request. */
export interface HeadLimits {
  readonly timeoutMs: number;
  readonly maxBytes: number;
}
