export { isDocumentNavigation } from '../http/navigation.ts';
export { SessionBinding, type SessionRequest } from './binding.ts';
export { attachSession, commitBeforeHeaders } from './commit-before-headers.ts';
export type { SessionCookieOptions } from './cookie.ts';
export { loadOrCreateKey } from './key-ring.ts';
export { type SessionEnd, SessionManager, type SessionManagerOptions } from './manager.ts';
export type { DeepReadonly, Session, SessionData, SessionEndReason, SessionOwner } from './session.ts';
export type { SocketSession } from './socket-sessions.ts';
export type {
  CommitResult,
  SessionChanges,
  SessionHeader,
  SessionRecord,
  SessionStore,
  StoredAttribute,
} from './store.ts';
export { MemoryStore, type MemoryStoreOptions } from './stores/memory.ts';
