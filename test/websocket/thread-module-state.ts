import { threadId } from 'node:worker_threads';
import type { ThreadConnection } from 'holdfast';

let count = 0;

export function onMessage(connection: ThreadConnection): void {
  connection.send(`thread ${threadId} ${++count}`);
}
