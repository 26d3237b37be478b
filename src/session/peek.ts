import { notLoaded } from './record/loaded-attribute.ts';
import { Snapshot } from './record/snapshot.ts';
import { wholeTimes } from './record/times.ts';
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

/** What `peek` takes besides the sid. */
export interface PeekOptions {
  /** Attributes that lie apart and that are read with the others, so that `get` has them. Default: none. */
  readonly attributes?: readonly string[];
}

function frozenOwner({ name, roles, scheme, credential }: SessionOwner): DeepReadonly<SessionOwner> {
  return Object.freeze({
    ...{ name, roles: Object.freeze([...roles]) },
    ...(scheme !== undefined && { scheme }),
    ...(credential !== undefined && { credential }),
  });
}

/** @param without Names of attributes whose values were not read. */
export function peekAt(sid: string, record: SessionRecord, without: ReadonlySet<string> | undefined): SessionPeek {
  const { header, lastAccessedAt } = record;
  const snapshot = new Snapshot(record, without);
  const { owner } = header;
  const peek: SessionPeek<Record<string, unknown>> = {
    id: sid,
    owner: owner && frozenOwner(owner),
    ...wholeTimes(header, lastAccessedAt),
    get: name => {
      if (without?.has(name)) throw notLoaded(name);
      return snapshot.read(name)?.value as never;
    },
    has: name => snapshot.has(name),
    keys: () => [...snapshot.names()],
  };
  return Object.freeze(peek) as unknown as SessionPeek;
}
