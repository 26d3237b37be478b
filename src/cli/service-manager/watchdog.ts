/**
 * How long the service manager waits for a sign of life, in milliseconds. Undefined when it does not wait for this
 * process.
 *
 * @see sd_watchdog_enabled(3)
 */
export function watchdogMs(
  { WATCHDOG_USEC = '', WATCHDOG_PID }: Readonly<Record<string, string | undefined>>,
  pid: number,
): number | undefined {
  if (WATCHDOG_PID !== undefined && WATCHDOG_PID !== String(pid)) return undefined;
  return /^[1-9]\d{0,15}$/.test(WATCHDOG_USEC) ? Number(WATCHDOG_USEC) / 1000 : undefined;
}
