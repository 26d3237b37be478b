import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, extname, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Config } from './config.ts';
import { ConfigError } from './config-error.ts';
import { mapPaths } from './named-paths.ts';
import { type Locate, parseConfig } from './parse.ts';
import { readSource } from './source.ts';

/** The names looked for in the working directory when no file is named, in this order. */
export const DEFAULT_CONFIG_FILES = ['holdfast.config.ts', 'holdfast.yaml', 'holdfast.yml', 'holdfast.json'] as const;

/**
 * The configuration file of a folder.
 *
 * @throws {ConfigError} ERR_CONFIG_NOT_FOUND when the folder holds none of `DEFAULT_CONFIG_FILES`.
 */
export function findConfig(folder: string): string {
  const name = DEFAULT_CONFIG_FILES.find(candidate => existsSync(resolve(folder, candidate)));
  if (name) return resolve(folder, name);
  const message = `no configuration in ${folder}; write one of ${DEFAULT_CONFIG_FILES.join(', ')}, or name a file with --config`;
  throw new ConfigError([{ path: '', message }], 'ERR_CONFIG_NOT_FOUND');
}

/**
 * Reads a configuration file (.yaml .yml .json, or .ts .mts .js .mjs with the configuration as default export) and
 * checks it.
 *
 * Paths in it are relative to the file; the result holds them absolute. Without `dataFolder` it is `.holdfast` beside
 * the file. Files named in problems are relative to the working directory.
 *
 * @throws {ConfigError} ERR_CONFIG_NOT_FOUND; ERR_CONFIG_INVALID with every problem found.
 */
export async function loadConfig(file: string): Promise<Config> {
  return (await readConfig(file)).config;
}

/** The same as `loadConfig`, with the places of the values: for what judges the configuration after it was read. */
export async function readConfig(file: string): Promise<{ config: Config; locate: Locate }> {
  const path = resolve(file);
  const shown = relative(process.cwd(), path) || path;
  if (!existsSync(path)) {
    const message = `there is no such file; name another with --config`;
    throw new ConfigError([{ path: '', message, file: shown }], 'ERR_CONFIG_NOT_FOUND');
  }
  const { config, locate } = await read(path, shown);
  return { config: withAbsolutePaths(config, dirname(path)), locate };
}

async function read(path: string, shown: string): Promise<{ config: Config; locate: Locate }> {
  switch (extname(path)) {
    case '.yaml':
    case '.yml':
    case '.json': {
      const format = path.endsWith('.json') ? 'json' : 'yaml';
      const { document, locate } = readSource(await readFile(path, 'utf8'), format, shown);
      return { config: parseConfig(document, locate), locate };
    }
    case '.ts':
    case '.mts':
    case '.js':
    case '.mjs': {
      const locate = () => ({ file: shown });
      return { config: parseConfig(await importDefault(path, shown), locate), locate };
    }
    default: {
      const message = 'not a configuration file; its name ends in .yaml, .yml, .json, .ts, .mts, .js or .mjs';
      throw new ConfigError([{ path: '', message, file: shown }]);
    }
  }
}

async function importDefault(path: string, shown: string): Promise<unknown> {
  let module: { default?: unknown };
  try {
    module = await import(pathToFileURL(path).href);
  } catch (error) {
    const message = `cannot be loaded: ${error instanceof Error ? error.message : String(error)}`;
    throw new ConfigError([{ path: '', message, file: shown }], 'ERR_CONFIG_INVALID', error);
  }
  if (module.default !== undefined) return module.default;
  const message = 'has no default export; write "export default defineConfig({ ... })"';
  throw new ConfigError([{ path: '', message, file: shown }]);
}

/** The same configuration with every path in it resolved against `folder`. */
function withAbsolutePaths(config: Config, folder: string): Config {
  return mapPaths({ ...config, dataFolder: config.dataFolder ?? '.holdfast' }, (text, kind) => {
    const prefix = kind === 'lmdb:' || kind === 'unix:' ? kind : '';
    return text.startsWith(prefix) ? prefix + resolve(folder, text.slice(prefix.length)) : text;
  });
}
