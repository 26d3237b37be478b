export { CloseCode } from '../wire/close-codes.ts';
export type { BroadcastResult } from './broadcast.ts';
export type { Connection } from './connection.ts';
export { defineEndpoint, Endpoint, isEndpoint } from './endpoint.ts';
export type { EndpointLimits } from './endpoint-limits.ts';
export type {
  Acceptance,
  AcceptRefusal,
  CloseEvent,
  DispatchOptions,
  EndpointOptions,
  SlowReaderPolicy,
} from './endpoint-options.ts';
export type { Handshake, User } from './handshake.ts';
export type { DeflateOptions } from './protocol/permessage-deflate.ts';
