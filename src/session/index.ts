export { isDocumentNavigation } from '../http/navigation.ts';
export { type RequestSite, requestSite } from '../http/request-site.ts';
export { SessionBinding, type SessionRequest } from './binding.ts';
export {
  type AttachOptions,
  attachSession,
  commitBeforeHeaders,
  type NodeContext,
  type Wrapped,
} from './commit-before-headers.ts';
export type { SessionCookieOptions } from './cookie.ts';
export {
  type ExpressCookieData,
  type ExpressSessionData,
  ExpressStore,
  type ExpressStoreOptions,
  toExpressStore,
} from './express-store.ts';
export type { Inspection, InspectorOptions } from './inspector.ts';
export { loadOrCreateKey } from './key-ring.ts';
export type { Ledger } from './ledger.ts';
export { MemoryLedger, type MemoryLedgerOptions } from './ledgers/memory.ts';
export { type SessionInfo, SessionManager, type SessionManagerOptions, type SocketEndReason } from './manager.ts';
export { UnauthorizedSessionRequestError } from './owner.ts';
export type { LifetimeProfile, WriteProfile } from './profiles.ts';
export type { DeepReadonly, Session, SessionData, SessionEndReason, SessionOwner, SessionScope } from './session.ts';
export type { AttributeChange, SessionEnd, SessionEvents } from './session-events.ts';
export type { SocketSession } from './shared-sessions.ts';
export type { Distribution, SessionStatistics, SlowCall, StoreCalls } from './statistics.ts';
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
export type { SweepSchedule } from './sweeper.ts';
export type { HeaderLine, TrackedRequest, TrackingKind, TrackingOptions } from './tracking.ts';
export {
  type ClassOf,
  defineType,
  type KeptForm,
  type KeptProperties,
  SessionTypeUnknownError,
} from './type-registry.ts';
export type { UserLimit } from './user-sessions.ts';
export { firstVersion, nextVersion } from './version.ts';
export type { AttributeConflict, ConflictPolicy, WriteContents, WriteFrequency } from './write-policy.ts';
