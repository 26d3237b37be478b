import type { Config } from './config.ts';

/** Returns the configuration as it is: gives a `holdfast.config.ts` its types. It is checked when it is loaded. */
export function defineConfig(config: Config): Config {
  return config;
}
