import { existsSync } from 'node:fs';
import { dirname, extname, relative, resolve } from 'node:path';
import { messageOf } from '../base/message-of.ts';
import { loadFailure } from '../drivers/application-files.ts';
import type { Config } from './config.ts';
import { ConfigError, type ConfigProblem } from './config-error.ts';
import { isAbout, unquoted, withNumbers, withoutValues } from './environment.ts';
import { type Document, readDocument } from './include.ts';
import { modules } from './modules.ts';
import { mapPaths } from './named-paths.ts';
import { type Locate, parseConfig } from './parse.ts';

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

/** A configuration that was read, and what is needed to speak of it. */
export interface ReadConfig {
  readonly config: Config;
  readonly locate: Locate;
  /** The same problem without values of variables of the environment. */
  hide(problem: ConfigProblem): ConfigProblem;
  /** The files that it stands in, the one that was named first, with the digests of what was read. */
  readonly files: ReadonlyMap<string, string>;
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
export async function readConfig(file: string): Promise<ReadConfig> {
  const path = resolve(file);
  const shown = relative(process.cwd(), path) || path;
  if (!existsSync(path)) {
    const message = `there is no such file; name another with --config`;
    throw new ConfigError([{ path: '', message, file: shown }], 'ERR_CONFIG_NOT_FOUND');
  }
  const read = await readAny(path, shown);
  return { ...read, config: withAbsolutePaths(read.config, path, read.locate) };
}

async function readAny(path: string, shown: string): Promise<ReadConfig> {
  switch (extname(path)) {
    case '.yaml':
    case '.yml':
    case '.json':
      return fromDocument(await readDocument(path));
    case '.ts':
    case '.mts':
    case '.js':
    case '.mjs': {
      const locate = () => ({ file: shown });
      const config = parseModule(await importDefault(path, shown), shown, locate);
      return {
        config,
        locate,
        hide: problem => problem,
        files: new Map([[path, modules.digestOf(path) ?? '']]),
      };
    }
    default: {
      const message = 'not a configuration file; its name ends in .yaml, .yml, .json, .ts, .mts, .js or .mjs';
      throw new ConfigError([{ path: '', message, file: shown }]);
    }
  }
}

/** A text from the environment that cannot be text where it stands, and looks like a number, is one. */
function fromDocument({ document, locate, replaced, files }: Document): ReadConfig {
  const hide = (problem: ConfigProblem) => withoutValues(problem, replaced);
  const parse = (from: unknown) => {
    try {
      return { config: parseConfig(from, locate), problems: [] };
    } catch (error) {
      if (error instanceof ConfigError) return { problems: error.problems };
      throw error;
    }
  };
  let { config, problems } = parse(document);
  const numbers = replaced.filter(one => unquoted(one.text) !== undefined && problems.some(of => isAbout(of, one)));
  if (numbers.length > 0) ({ config, problems } = parse(withNumbers(document, numbers)));
  if (!config) throw new ConfigError(problems.map(hide));
  return { config, locate, hide, files };
}

/** It may have getters, and be what looks like an object. */
function parseModule(document: unknown, shown: string, locate: Locate): Config {
  try {
    return parseConfig(document, locate);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const message = `cannot be read: ${messageOf(error)}`;
    throw new ConfigError([{ path: '', message, file: shown }], 'ERR_CONFIG_INVALID', error);
  }
}

async function importDefault(path: string, shown: string): Promise<unknown> {
  let module: { default?: unknown };
  try {
    module = await modules.load(path);
  } catch (error) {
    const message = `cannot be loaded: ${loadFailure(error)}`;
    throw new ConfigError([{ path: '', message, file: shown }], 'ERR_CONFIG_INVALID', error);
  }
  if (module.default !== undefined) return module.default;
  const message = 'has no default export; write "export default defineConfig({ ... })"';
  throw new ConfigError([{ path: '', message, file: shown }]);
}

/** The same configuration with every path in it resolved against the folder of the file in which it stands. */
function withAbsolutePaths(config: Config, main: string, locate: Locate): Config {
  return mapPaths({ ...config, dataFolder: config.dataFolder ?? '.holdfast' }, (text, kind, at) => {
    const prefix = kind === 'lmdb:' || kind === 'unix:' ? kind : '';
    const folder = dirname(resolve(locate(at).file ?? main));
    return text.startsWith(prefix) ? prefix + resolve(folder, text.slice(prefix.length)) : text;
  });
}
