export type { HeaderLine } from '../http/header-line.ts';
export { isDocumentNavigation, isPreflight } from '../http/navigation.ts';
export { type RequestSite, requestSite } from '../http/request-site.ts';
export { type AttachOptions, attachSession, type NodeContext, type Wrapped } from './attach-session.ts';
export { type AttachSocketOptions, attachSocket } from './attach-socket.ts';
export {
  type ExpressCookieData,
  type ExpressSessionData,
  ExpressStore,
  type ExpressStoreOptions,
  toExpressStore,
} from './express-store.ts';
export type { SessionCookieOptions } from './identity/cookie.ts';
export { loadOrCreateKey } from './identity/key-ring.ts';
export { UnauthorizedSessionRequestError } from './identity/owner.ts';
export type { TrackedRequest, TrackingKind, TrackingOptions } from './identity/tracking.ts';
export type { Ledger } from './ledger.ts';
export { MemoryLedger, type MemoryLedgerOptions } from './ledgers/memory.ts';
export type { RememberMe } from './life/login-times.ts';
export type { LifetimeProfile, WriteProfile } from './life/profiles.ts';
export type { SweepSchedule } from './life/sweeper.ts';
export type { UserLimit } from './life/user-sessions.ts';
export { SessionManager } from './manager.ts';
export type { SessionManagerOptions } from './options.ts';
export type { PeekOptions, SessionPeek } from './peek.ts';
export type { SocketEndReason } from './process/registry.ts';
export type { SocketSession } from './process/socket-session.ts';
export {
  type ClassOf,
  defineType,
  type KeptForm,
  type KeptProperties,
  SessionTypeUnknownError,
} from './record/type-registry.ts';
export { firstVersion, nextVersion } from './record/version.ts';
export type { AttributeConflict, ConflictPolicy, WriteContents, WriteFrequency } from './record/write-policy.ts';
export type { AttributeChange, SessionEnd, SessionEvents } from './reports/events.ts';
export type { Level, SessionMinute } from './reports/history.ts';
export type { Inspection } from './reports/inspection-page.ts';
export type { InspectorOptions } from './reports/inspector.ts';
export type { FastifyReply, FastifyRequest, HonoContext, Inspector } from './reports/inspector-carriers.ts';
export type { Distribution, SessionStatistics, SlowCall, StoreCalls } from './reports/statistics.ts';
export type { MachineStatistics, ProcessStatistics, StatisticsOfAll } from './reports/statistics-of-all.ts';
export { sumStatistics } from './reports/sums.ts';
export { SessionBinding } from './request/binding.ts';
export { commitBeforeHeaders } from './request/commit-before-headers.ts';
export type { SessionRequest } from './request/session-request.ts';
export type {
  DeepReadonly,
  RenewOptions,
  Session,
  SessionData,
  SessionEndReason,
  SessionOwner,
  SessionScope,
  SignInOptions,
} from './session.ts';
export type { SessionInfo } from './session-info.ts';
export type {
  CommitResult,
  FormerSecret,
  SessionChanges,
  SessionFeed,
  SessionGlance,
  SessionHeader,
  SessionRecord,
  SessionStore,
  StoredAttribute,
} from './store.ts';
export { MemoryStore, type MemoryStoreOptions } from './stores/memory.ts';
