import { getOrInsert } from '../../../base/get-or-insert.ts';
import { KeyRing } from '../../../session/identity/key-ring.ts';
import { SERVER_PARTS, type SessionManager } from '../../../session/manager.ts';

const rings = new WeakMap<readonly unknown[], KeyRing>();

/** The keys that sign the tickets of these sessions by now: others may take their place while the sessions go on. */
export function keysOf(sessions: SessionManager): KeyRing {
  const { keys } = sessions[SERVER_PARTS];
  return getOrInsert(rings, keys, () => new KeyRing(keys));
}
