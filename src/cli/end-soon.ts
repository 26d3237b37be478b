/** How long what the application has begun by itself may keep the process when the command is done. */
const END_GRACE_MS = 2_000;

/** The command is done: timers and connections of the application's modules hold up its end for a moment only. */
export function endSoon(): void {
  setTimeout(() => process.exit(), END_GRACE_MS).unref();
}
