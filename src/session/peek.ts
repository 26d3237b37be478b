import type { Snapshot } from './record/snapshot.ts';
import type { DeepReadonly, Session, SessionData, SessionOwner } from './session.ts';
import type { SessionRecord } from './store.ts';

/** A session as the store had it when it was looked at. It changes nothing, and nothing changes it. */
export interface SessionPeek<D = SessionData> extends Pick<Session<D>, 'get' | 'has' | 'keys'> {
  /** The `sid`. */
  readonly id: string;
  /** Also one who shows who they are with each request. */
  readonly owner: DeepReadonly<SessionOwner> | undefined;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly lastAccessedAt: number;
  /** Milliseconds of silence after which it ends; absent: never. */
  readonly idleTimeoutMs: number | undefined;
  /** Milliseconds since the epoch; absent: it does not end by age. */
  readonly absoluteExpiresAt: number | undefined;
}

/** @param snapshot Of this record. */
export function peekAt(sid: string, { header, lastAccessedAt }: SessionRecord, snapshot: Snapshot): SessionPeek {
  const { owner, createdAt, idleTimeoutMs, absoluteExpiresAt } = header;
  const peek: SessionPeek<Record<string, unknown>> = {
    id: sid,
    owner: owner && Object.freeze({ name: owner.name, roles: Object.freeze([...owner.roles]) }),
    createdAt,
    lastAccessedAt,
    idleTimeoutMs,
    absoluteExpiresAt,
    get: name => snapshot.read(name)?.value as never,
    has: name => snapshot.attribute(name) !== undefined,
    keys: () => [...snapshot.names()],
  };
  return Object.freeze(peek) as unknown as SessionPeek;
}
