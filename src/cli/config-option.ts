import { findConfig } from '../config/load.ts';

/** The option that names the configuration file, for every command that reads one. */
export const configOption = {
  type: 'string',
  short: 'c',
  placeholder: 'FILE',
  help: 'default: holdfast.config.ts, holdfast.yaml, holdfast.yml or holdfast.json of this folder',
} as const;

/** The file that was named, or the one that stands in the working directory. */
export function configFile(named: unknown): string {
  return typeof named === 'string' ? named : findConfig(process.cwd());
}
