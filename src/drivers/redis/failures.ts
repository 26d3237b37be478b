import { HoldfastError } from '../../base/errors.ts';
import type { RedisClientLike } from '../redis.ts';

export class NoAnswer extends Error {
  constructor() {
    super('no answer in time');
  }
}

export class NotConnected extends Error {
  constructor(cause: unknown) {
    super('not connected', { cause });
  }
}

/** The first word of an error reply; undefined when the error is not a reply. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? /^[A-Z]{2,}(?= )/.exec(error.message)?.[0] : undefined;
}

/** As of `RedisNode`. */
interface GivesUp {
  giveUp(client: RedisClientLike, reason: unknown): void;
}

/** What a failed command says about the connection it went over. */
export function onFailure(node: GivesUp, client: RedisClientLike, error: unknown): void {
  // READONLY: a server that has become a replica. Behind its name there may be another one by now.
  if (error instanceof NoAnswer || codeOf(error) === 'READONLY') node.giveUp(client, error);
}

export function noRoom(message: string, cause: unknown): HoldfastError {
  return new HoldfastError('ERR_SESSION_NO_ROOM', message, { status: 503, closeCode: 1013, cause });
}

export function unavailable(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, closeCode: 1013, cause });
}
