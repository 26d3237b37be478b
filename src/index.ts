export { type ErrorCode, HoldfastError, isHoldfastError } from './base/errors.ts';
export type { Config } from './config/config.ts';
export { ConfigError, type ConfigProblem } from './config/config-error.ts';
export { defineConfig } from './config/define-config.ts';
export type { FetchContext, FetchHandler } from './gateway/targets/fetch.ts';
export type { DrainOptions, UpstreamControl, UpstreamStatus } from './gateway/upstream/upstream.ts';
export type {
  CustomPolicy,
  CustomPolicyConfig,
  PolicyFacts,
  PolicyRefusal,
  PolicyVerdict,
} from './policy/custom.ts';
export {
  type ContextStatistics,
  createServer,
  type Server,
  type ServerSessions,
  type ServerStatistics,
  type StopOptions,
} from './server/server.ts';
export { defineType, SessionTypeUnknownError } from './session/record/type-registry.ts';
export type { Session, SessionData, SessionEndReason, SessionOwner } from './session/session.ts';
export * from './websocket/index.ts';
