export { CloseCode } from '../wire/close-codes.ts';
export type { BroadcastResult } from './broadcast.ts';
export type { Connection, Endpoint } from './connection.ts';
export { defineEndpoint, isEndpoint } from './endpoint.ts';
export type {
  Acceptance,
  AcceptRefusal,
  CloseEvent,
  DispatchOptions,
  EndpointLimits,
  EndpointOptions,
  SlowReaderPolicy,
} from './endpoint-options.ts';
export type { Handshake, User } from './handshake.ts';
export type { DeflateOptions } from './protocol/permessage-deflate.ts';
export type { ThreadConnection, ThreadEndpoint, ThreadHandlers } from './threads/thread-connection.ts';
