/** What a worker process is told by its environment: its number. */
export const WORKER_VARIABLE = 'HOLDFAST_WORKER';

/** Takes it out of the environment. @returns the number; undefined: this process is no worker. */
export function workerNumber(environment: Record<string, string | undefined>): number | undefined {
  const value = environment[WORKER_VARIABLE];
  delete environment[WORKER_VARIABLE];
  return value !== undefined && /^\d{1,6}$/.test(value) && process.send !== undefined ? Number(value) : undefined;
}
