import type { Config } from '../../config/config.ts';

/** Where there is a port to ask for them, they are kept. */
export function keepsMetrics({ admin, metrics }: Config): boolean {
  return metrics ?? (typeof admin === 'object' && admin.port !== undefined);
}
