export { type ErrorCode, HoldfastError, isHoldfastError } from './base/errors.ts';
export type { Config } from './config/config.ts';
export { ConfigError, type ConfigProblem } from './config/config-error.ts';
export { defineConfig } from './config/define-config.ts';
export type { FetchContext, FetchHandler } from './gateway/fetch-target.ts';
export { createServer, type Server, type ServerSessions, type StopOptions } from './server/server.ts';
export type { Session, SessionData, SessionEndReason, SessionOwner } from './session/session.ts';
export * from './websocket/index.ts';
