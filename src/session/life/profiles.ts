import { LIFETIME_TIMES, PROFILE_WRITE_MS } from '../../base/session-times.ts';
import type { WriteContents, WriteFrequency } from '../record/write-policy.ts';
import type { SweepSchedule } from './sweeper.ts';

/**
 * How sessions are written, by IBM's names (WebSphere tuning levels). `very-high`: every 5 min, what was set, swept in
 * two hours of the night. `high`: every 5 min, all attributes. `medium`: at the end of each request, what was set.
 * `failover` (IBM: low): at the end of each request, all attributes; in a configuration that names a redis also
 * acknowledged by one replica, unless its `acknowledge` asks for more.
 */
export type WriteProfile = 'very-high' | 'high' | 'medium' | 'failover';

/**
 * How long sessions live, by NIST SP 800-63B authenticator assurance level. `aal1`: 30 days. `aal2`: 12 h, 30 min idle.
 * `aal3`: 12 h, 15 min idle.
 */
export type LifetimeProfile = 'aal1' | 'aal2' | 'aal3';

export interface WriteProfileSettings {
  readonly frequency: WriteFrequency;
  readonly contents: WriteContents;
  readonly sweep?: SweepSchedule;
}

export interface LifetimeProfileSettings {
  readonly idleTimeoutMs: number;
  readonly absoluteTimeoutMs: number;
}

/** @see IBM WebSphere Application Server, "Tuning parameter settings" (uprs_rtuning_parameters) */
export const WRITE_PROFILES: Readonly<Record<WriteProfile, WriteProfileSettings>> = {
  'very-high': { frequency: { everyMs: PROFILE_WRITE_MS['very-high'] }, contents: 'set', sweep: { atHours: [0, 2] } },
  high: { frequency: { everyMs: PROFILE_WRITE_MS.high }, contents: 'all' },
  medium: { frequency: 'end-of-request', contents: 'set' },
  failover: { frequency: 'end-of-request', contents: 'all' },
};

export const LIFETIME_PROFILES: Readonly<Record<LifetimeProfile, LifetimeProfileSettings>> = LIFETIME_TIMES;
