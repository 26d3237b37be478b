import type { SessionFeed } from '../store.ts';

/**
 * The `watch` of a store that hears of changes on a connection it shares with others.
 *
 * @param source The connection.
 * @param subscribe Listens for sids, and resolves with what stops it.
 */
export async function openFeed(
  source: Pick<SessionFeed, 'isCurrent' | 'gaps'>,
  onChange: (sid: string) => void,
  subscribe: (tell: (sid: string) => void) => Promise<() => unknown>,
): Promise<SessionFeed> {
  let isClosed = false;
  const stop = await subscribe(sid => {
    if (!isClosed) onChange(sid);
  });
  return {
    get isCurrent() {
      return !isClosed && source.isCurrent;
    },
    get gaps() {
      return source.gaps;
    },
    async close() {
      isClosed = true;
      await stop();
    },
  };
}
