import { checkAttributeName } from '../base/attribute-name.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { checkChoice, checkNeeded, checkOptions, hasMethods, kindOf, type OptionNames } from '../base/options.ts';
import { sameValue } from '../base/same-value.ts';
import { DEFAULT_IDLE_MS, endsBeforeWrite, isWriteTime, MAX_WRITE_MS, MIN_WRITE_MS } from '../base/session-times.ts';
import { COOKIE_OPTIONS } from './identity/cookie.ts';
import type { TrackingOptions } from './identity/tracking.ts';
import type { Ledger } from './ledger.ts';
import { checkRememberMe, REMEMBER_ME, type RememberMe } from './life/login-times.ts';
import { LIFETIME_PROFILES, type LifetimeProfile, WRITE_PROFILES, type WriteProfile } from './life/profiles.ts';
import type { SweepSchedule } from './life/sweeper.ts';
import type { UserLimit } from './life/user-sessions.ts';

import type { ConflictPolicy, WriteContents, WriteFrequency } from './record/write-policy.ts';
import { checkShare, DEFAULT_ANONYMOUS_SHARE } from './room/cap.ts';
import type { SessionStore } from './store.ts';

export interface SessionManagerOptions extends TrackingOptions {
  /** Closed by `close()`. */
  readonly store: SessionStore;
  /**
   * What the processes that share the store have in common besides sessions: ends and renewals reach the others through
   * it. Closed by `close()`. Default: one in this process' memory; then others learn of an end within 5 s, by asking
   * the store.
   */
  readonly ledger?: Ledger;
  /**
   * Keys of at least 32 random bytes; the first signs, every one verifies. Bytes, and a text that says them in base64,
   * base64url or hexadecimal digits, are one key. `loadOrCreateKey` keeps one in a folder.
   */
  readonly keys: readonly (string | Uint8Array)[];
  /** Idle and absolute time by assurance level; either can be set beside it. */
  readonly lifetime?: LifetimeProfile;
  /**
   * Milliseconds of silence after which a session ends; `Infinity` never. Default 30 minutes. A request that runs is no
   * silence, however long it takes.
   */
  readonly idleTimeoutMs?: number;
  /** Milliseconds after which a session ends whatever happens; `Infinity` never. Default 12 hours. */
  readonly absoluteTimeoutMs?: number;
  /**
   * Milliseconds after which a session in use gets a new secret; the old one works until the client has the new one.
   * `Infinity` never. Default 4 hours.
   */
  readonly renewalTimeoutMs?: number;
  /** Frequency and contents by IBM's names; either can be set beside it. */
  readonly profile?: WriteProfile;
  /** When changes are written. Default `end-of-request`. */
  readonly write?: WriteFrequency;
  /** What a commit writes. Default `set`. */
  readonly contents?: WriteContents;
  /** What happens when two requests change one attribute. Default `last-wins`. */
  readonly conflicts?: ConflictPolicy;
  /**
   * `strict` (default): each request sees what was committed before it began, in any process; it costs one small read.
   * `relaxed`: no read for a session in memory, which may be up to 1 s behind; one that several processes use in turns
   * is asked for, and its last access written, with each request that comes from another process.
   */
  readonly coherence?: 'strict' | 'relaxed';
  /** Sessions kept decoded in memory at most. Default 10,000; 0 keeps none. */
  readonly cacheSessions?: number;
  /** Bytes of memory for them, as far as they can be told. Default 64 MiB. */
  readonly cacheBytes?: number;
  /**
   * Sessions at most, where the store does not keep a cap itself: counted at each sweep. Default: as many as it takes.
   * For `MemoryStore` and `LmdbStore` it is an option of theirs, and exact.
   */
  readonly maxSessions?: number;
  /**
   * Share of `maxSessions`, and of a memory that is limited, from 0 to 1, that anonymous sessions may fill: the rest is
   * for logins. Default 0.8.
   */
  readonly anonymousShare?: number;
  /**
   * What happens at a cap. `refuse` (default): ERR_SESSION_NO_ROOM, 503. `evict`: the session next to expire ends, an
   * anonymous one first; an anonymous session never takes the place of one that has an owner.
   */
  readonly overflow?: 'refuse' | 'evict';
  readonly maxSessionsPerUser?: UserLimit;
  /**
   * The longest times that a login may ask for (`signIn`, `renew`, `Holdfast-Session` of a backend), and those of a login with
   * `persistent: true` that names none. Default: `idleTimeoutMs` and `absoluteTimeoutMs`, the latter up to 400 days.
   */
  readonly rememberMe?: RememberMe;
  /**
   * A session is given to its owner only (default): the first user who is authenticated in it, by a login or by the
   * `user` of a request. `false`: to everybody who shows its cookie, whichever user the request is from. Then the `user`
   * of a request owns nothing, and who signs in takes the session over, with what is in it.
   */
  readonly ownerRule?: boolean;
  /** Largest encoded attribute in bytes. Default 1 MiB. */
  readonly maxAttributeBytes?: number;
  /** Largest session in bytes. Default 4 MiB. */
  readonly maxSessionBytes?: number;
  /**
   * Bytes of an attribute and of a session above which a warning is logged, once for each name. Default 16 KiB and 64
   * KiB.
   */
  readonly warnSize?: { readonly attributeBytes?: number; readonly sessionBytes?: number };
  /**
   * Attributes that are not read with the session, by their whole names: `{ report: 'apart', 'shop:photo': 'apart' }`.
   * For what is large and few requests need. `await session.load('report')` fetches one, and `get` works from then on;
   * all others cost nothing. Nothing changes in the store: processes with other lists share its sessions. Default: none.
   */
  readonly attributes?: Readonly<Record<string, 'apart'>>;
  /** When expired sessions are looked for. Default every 60,000 ms. Those that sockets hold end on time in any case. */
  readonly sweep?: SweepSchedule;
  /**
   * A call to the store that takes longer has failed, in milliseconds; `Infinity`: none has. For as long an update that
   * meets others tries again. Default 5,000.
   */
  readonly storeTimeoutMs?: number;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

/** What `openPostgres` and `openRedis` return may be spread into them: a store, a ledger and `close`. */
const SESSION_OPTIONS: OptionNames<SessionManagerOptions & { close: unknown }> = {
  close: true,
  store: true,
  ledger: true,
  keys: true,
  tracking: true,
  cookie: COOKIE_OPTIONS,
  header: 'text',
  urlParameter: 'text',
  lifetime: true,
  idleTimeoutMs: 'number',
  absoluteTimeoutMs: 'number',
  renewalTimeoutMs: 'number',
  profile: true,
  write: { everyMs: 'number' },
  contents: true,
  conflicts: true,
  coherence: true,
  cacheSessions: 'number',
  cacheBytes: 'number',
  maxSessions: 'number',
  anonymousShare: 'number',
  overflow: true,
  maxSessionsPerUser: { max: 'number', whenReached: true } satisfies OptionNames<UserLimit>,
  rememberMe: REMEMBER_ME,
  ownerRule: 'flag',
  maxAttributeBytes: 'number',
  maxSessionBytes: 'number',
  warnSize: { attributeBytes: 'number', sessionBytes: 'number' },
  attributes: 'fields',
  sweep: { everyMs: 'number', atHours: 'list' },
  storeTimeoutMs: 'number',
  clock: 'clock',
  logger: 'logger',
};

type Choice = 'lifetime' | 'profile' | 'contents' | 'coherence' | 'overflow';

const CHOICES: { readonly [K in Choice]: readonly NonNullable<SessionManagerOptions[K]>[] } = {
  lifetime: Object.keys(LIFETIME_PROFILES) as LifetimeProfile[],
  profile: Object.keys(WRITE_PROFILES) as WriteProfile[],
  contents: ['set', 'get-and-set', 'all'],
  coherence: ['strict', 'relaxed'],
  overflow: ['refuse', 'evict'],
};

const EXAMPLE = 'new SessionManager({ store: new MemoryStore(), keys: [await loadOrCreateKey("./data")] })';

/** @throws {TypeError} when an option is missing, unknown, or not what it has to be. */
export function checkManagerOptions(options: SessionManagerOptions): void {
  const needs = (what: object) => checkNeeded('SessionManager', what, ['store', 'keys'], EXAMPLE);
  if (typeof options !== 'object' || options === null) needs({});
  checkOptions('SessionManager', options, SESSION_OPTIONS);
  needs(options);
  checkStore('SessionManager', options.store);
  for (const [name, choices] of Object.entries(CHOICES))
    checkChoice('SessionManager', name, options[name as keyof typeof CHOICES], choices);
  if (typeof options.conflicts !== 'function')
    checkChoice('SessionManager', 'conflicts', options.conflicts, ['last-wins', 'reject']);
  for (const name of ['cookie', 'maxSessionsPerUser', 'rememberMe', 'warnSize', 'sweep', 'ledger'] as const)
    if (options[name] !== undefined && kindOf(options[name]) !== 'an object')
      throw new TypeError(`SessionManager: "${name}" is an object, not ${kindOf(options[name])}`);
  if (options.ledger !== undefined && !hasMethods(options.ledger, ['get', 'put', 'take', 'subscribe']))
    throw new TypeError(
      'SessionManager: "ledger" is a ledger; give it for example new MemoryLedger(), and await what opens one',
    );
  checkAttributes(options.attributes);
  checkSweep(options.sweep);
  checkChoice('SessionManager', 'cookie.sameSite', options.cookie?.sameSite, ['strict', 'lax', 'none']);
  const { whenReached } = options.maxSessionsPerUser ?? {};
  checkChoice('SessionManager', 'maxSessionsPerUser.whenReached', whenReached, ['refuse', 'end-oldest']);
  if (!Array.isArray(options.keys))
    throw new TypeError(
      `SessionManager: "keys" is a list of keys, not ${kindOf(options.keys)}; write for example [key]`,
    );
}

function checkAttributes(attributes: SessionManagerOptions['attributes'] = {}): void {
  for (const [name, where] of Object.entries(attributes)) {
    checkAttributeName(name);
    checkChoice('SessionManager', `attributes.${name}`, where, ['apart']);
    if (where === undefined) throw new TypeError(`SessionManager: "attributes.${name}" is "apart", or left out`);
  }
}

function checkSweep(sweep: SessionManagerOptions['sweep']): void {
  if (sweep === undefined || 'everyMs' in sweep !== 'atHours' in sweep) return;
  throw new TypeError('SessionManager: "sweep" is either { everyMs } or { atHours }, for example { everyMs: 60_000 }');
}

/** @throws {TypeError} when it is not a session store. */
export function checkStore(call: string, store: SessionStore): void {
  const given = store as Partial<SessionStore & PromiseLike<unknown>> | null | undefined;
  if (typeof given === 'object' && typeof given?.commit === 'function') return;
  const remedy =
    typeof given === 'object' && typeof given?.then === 'function'
      ? 'a promise; await it first'
      : `${kindOf(given)}; give it for example new MemoryStore()`;
  throw new TypeError(`${call}: "store" is a session store, not ${remedy}`);
}

type Resolved =
  | 'attributes'
  | 'store'
  | 'ledger'
  | 'keys'
  | 'lifetime'
  | 'profile'
  | 'maxSessionsPerUser'
  | 'rememberMe'
  | 'clock'
  | 'logger';

/** The options that are plain values, with profiles and defaults filled in. */
export interface SessionSettings extends Required<Omit<SessionManagerOptions, keyof TrackingOptions | Resolved>> {
  readonly maxSessionsPerUser: UserLimit | undefined;
  readonly rememberMe: RememberMe | undefined;
  readonly warnSize: { readonly attributeBytes: number; readonly sessionBytes: number };
  /** Attributes that are not read with the session. Undefined: there are none. */
  readonly apart: ReadonlySet<string> | undefined;
}

/** Settings that can change while sessions are in use. */
const CHANGEABLE = [
  'idleTimeoutMs',
  'absoluteTimeoutMs',
  'renewalTimeoutMs',
  'contents',
  'conflicts',
  'overflow',
  'maxSessionsPerUser',
  'rememberMe',
  'ownerRule',
  'maxAttributeBytes',
  'maxSessionBytes',
  'warnSize',
] as const satisfies (keyof SessionSettings)[];

type Changeable = { -readonly [K in (typeof CHANGEABLE)[number]]: SessionSettings[K] };

/** True when nothing else differs than what can change while sessions are in use. */
export function canBecome(settings: SessionSettings, next: SessionSettings): boolean {
  const isFixed = (name: string) => !(CHANGEABLE as readonly string[]).includes(name);
  const names = (Object.keys(settings) as (keyof SessionSettings)[]).filter(isFixed);
  return names.every(name => sameValue(plain(settings[name]), plain(next[name])));
}

function plain(value: unknown): unknown {
  return value instanceof Set ? [...value].sort() : value;
}

/** Gives settings that are in use the changeable values of others. */
export function become(settings: Partial<SessionSettings>, next: SessionSettings): void {
  const changing = settings as Partial<Changeable>;
  for (const name of CHANGEABLE) Object.assign(changing, { [name]: next[name] });
}

const POSITIVE = [
  'idleTimeoutMs',
  'absoluteTimeoutMs',
  'renewalTimeoutMs',
  'storeTimeoutMs',
  'maxAttributeBytes',
  'maxSessionBytes',
] as const;
const NOT_NEGATIVE = ['cacheSessions', 'cacheBytes'] as const;

/** @throws {TypeError} when a value cannot work. */
export function readSettings(options: SessionManagerOptions): SessionSettings {
  const lifetime = options.lifetime && LIFETIME_PROFILES[options.lifetime];
  const profile = WRITE_PROFILES[options.profile ?? 'medium'];
  const settings: SessionSettings = {
    idleTimeoutMs: options.idleTimeoutMs ?? lifetime?.idleTimeoutMs ?? DEFAULT_IDLE_MS,
    absoluteTimeoutMs: options.absoluteTimeoutMs ?? lifetime?.absoluteTimeoutMs ?? 12 * 3_600_000,
    renewalTimeoutMs: options.renewalTimeoutMs ?? 4 * 3_600_000,
    write: options.write ?? profile.frequency,
    contents: options.contents ?? profile.contents,
    conflicts: options.conflicts ?? 'last-wins',
    coherence: options.coherence ?? 'strict',
    cacheSessions: options.cacheSessions ?? 10_000,
    cacheBytes: options.cacheBytes ?? 64 * 1024 * 1024,
    maxSessions: options.maxSessions ?? Number.POSITIVE_INFINITY,
    anonymousShare: options.anonymousShare ?? DEFAULT_ANONYMOUS_SHARE,
    overflow: options.overflow ?? 'refuse',
    maxSessionsPerUser: options.maxSessionsPerUser,
    rememberMe: options.rememberMe,
    ownerRule: options.ownerRule ?? true,
    maxAttributeBytes: options.maxAttributeBytes ?? 1024 * 1024,
    maxSessionBytes: options.maxSessionBytes ?? 4 * 1024 * 1024,
    warnSize: {
      attributeBytes: options.warnSize?.attributeBytes ?? 16 * 1024,
      sessionBytes: options.warnSize?.sessionBytes ?? 64 * 1024,
    },
    apart: apartNames(options.attributes),
    sweep: options.sweep ?? profile.sweep ?? { everyMs: 60_000 },
    storeTimeoutMs: options.storeTimeoutMs ?? 5_000,
  };
  for (const name of POSITIVE) {
    if (settings[name] > 0) continue;
    throw new TypeError(`sessions: ${name} must be more than 0, or Infinity for no limit; not ${settings[name]}`);
  }
  for (const name of NOT_NEGATIVE)
    if (!(settings[name] >= 0)) throw new TypeError(`sessions: ${name} must be 0 or more, not ${settings[name]}`);
  for (const [name, bytes] of Object.entries(settings.warnSize))
    if (!(bytes > 0)) throw new TypeError(`sessions: warnSize.${name} must be more than 0, not ${bytes}`);
  if (settings.rememberMe) checkRememberMe(settings.rememberMe);
  checkShare('sessions', settings.anonymousShare);
  checkFrequency(settings.write, settings.idleTimeoutMs);
  return settings;
}

function apartNames(attributes: SessionManagerOptions['attributes']): ReadonlySet<string> | undefined {
  const names = new Set(Object.keys(attributes ?? {}));
  return names.size > 0 ? names : undefined;
}

function checkFrequency(frequency: WriteFrequency, idleTimeoutMs: number): void {
  if (frequency === 'end-of-request' || frequency === 'manual') return;
  if (typeof frequency !== 'object') {
    throw new TypeError(
      `sessions: write must be end-of-request, manual or { everyMs }, not ${JSON.stringify(frequency)}`,
    );
  }
  const { everyMs } = frequency;
  if (!isWriteTime(everyMs))
    throw new TypeError(
      `sessions: write.everyMs must be ${MIN_WRITE_MS} to ${MAX_WRITE_MS} milliseconds, not ${everyMs}`,
    );
  if (endsBeforeWrite(idleTimeoutMs, everyMs)) {
    throw new TypeError(
      `sessions: idleTimeoutMs (${idleTimeoutMs}) must be at least twice write.everyMs (${everyMs}); write more often, or let sessions live longer`,
    );
  }
}
