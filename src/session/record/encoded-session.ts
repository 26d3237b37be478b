import type { Session } from '../session.ts';
import { SessionHandle } from './handle.ts';

/**
 * A session of which values are read and written as they are stored: for code in another thread, which knows its own
 * classes (`defineType`) and decodes there.
 */
export type EncodedSession = Session &
  Pick<SessionHandle, 'maxAttributeBytes' | 'fetch' | 'getEncoded' | 'setEncoded' | 'updateEncoded'>;

/** @throws {TypeError} for a session that was not made here. */
export function encodedSession(session: Session): EncodedSession {
  if (session instanceof SessionHandle) return session as object as EncodedSession;
  throw new TypeError('this is not the session of a socket, which alone can be passed to another thread');
}
