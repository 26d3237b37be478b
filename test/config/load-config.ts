import type { Config } from '../../src/config/config.ts';
import { readConfig } from '../../src/config/load.ts';

/** The configuration of a file. */
export async function loadConfig(file: string): Promise<Config> {
  return (await readConfig(file)).config;
}
