import { getPriority, setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import type { FromThread, ToThread } from './messages.ts';
import { verifyPassword } from './verify-password.ts';

/** As `nice -n`: where a core is wanted by both, the main thread, which answers everybody, is next. */
const NICER = 10;
const LEAST_PRIORITY = 19;

/** Linux alone has a priority for each thread; elsewhere it would be that of the whole process. */
function standBack(): void {
  if (process.platform !== 'linux') return;
  try {
    setPriority(0, Math.min(getPriority(0) + NICER, LEAST_PRIORITY));
  } catch {
    // Where it is forbidden, all are equal.
  }
}

standBack();
// One password at a time: the next one comes when this one is answered.
parentPort!.on('message', ({ password, hash }: ToThread) => {
  const answer: FromThread = verifyPassword(password, hash);
  parentPort!.postMessage(answer);
});
