import type { Config } from './config.ts';

/**
 * Returns the configuration as it is: gives a `holdfast.config.ts` its types. It is checked when it is loaded.
 *
 * @example
 * import { defineConfig } from 'holdfast';
 *
 * export default defineConfig({ listen: [{ port: 8080 }], session: { store: 'lmdb:./data' } });
 */
export function defineConfig(config: Config): Config {
  return config;
}
