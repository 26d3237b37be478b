import type { Bans } from '../policy/ban/bans.ts';
import { CloseCode } from '../wire/close-codes.ts';
import type { ServerLife } from './assembly/life.ts';
import { BANNED } from './banned.ts';
import type { Listener } from './listen/listener.ts';

/** What is still open of a client that is banned is cut so long after it was told. */
const CUT_AFTER_MS = 900;

/**
 * Ends what a client has open when its ban begins, in whichever process that was made: WebSockets are told (1008), idle
 * connections end at once, an answer that is under way is the last of its connection; what is left of all of them is cut
 * within a second. Of what trusted proxies bring, that is only the client's own WebSockets and answers.
 */
export function enforceBans(bans: Bans, life: ServerLife, listeners: () => Iterable<Listener>): void {
  bans.onBan(hits => {
    const sockets = [...life.sockets].filter(({ clientAddress }) => hits(clientAddress));
    for (const socket of sockets) socket.close(CloseCode.policyViolation, BANNED);
    for (const listener of listeners()) listener.endOf(hits);
    life.clock.setTimeout(() => {
      for (const socket of sockets) socket.terminate();
      for (const listener of listeners()) listener.cutOf(hits);
      // The connection of a trusted proxy is of others, too.
      for (const [response, { head }] of life.answers)
        if (head.isPeerTrusted && hits(head.clientAddress)) response.destroy();
    }, CUT_AFTER_MS);
  });
}
