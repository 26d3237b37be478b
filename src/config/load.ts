import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, extname, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type {
  ApplicationConfig,
  CertificateConfig,
  Config,
  ListenConfig,
  RouteConfig,
  SessionConfig,
  UpstreamConfig,
} from './config.ts';
import { ConfigError } from './config-error.ts';
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
export function withAbsolutePaths(config: Config, folder: string): Config {
  const at = (path: string) => resolve(folder, path);
  const url = (value: string) => (value.startsWith('lmdb:') ? `lmdb:${at(value.slice('lmdb:'.length))}` : value);
  const store = (value: NonNullable<SessionConfig['store']>): NonNullable<SessionConfig['store']> => {
    if (typeof value === 'string') return url(value);
    return 'url' in value && typeof value.url === 'string' ? { ...value, url: url(value.url) } : value;
  };
  const session = (value: SessionConfig): SessionConfig => ({
    ...value,
    ...(value.store !== undefined && { store: store(value.store) }),
    ...(value.keyFiles && { keyFiles: value.keyFiles.map(at) }),
  });
  const route = (value: RouteConfig): RouteConfig => ({
    ...value,
    ...(value.files !== undefined && { files: at(value.files) }),
    ...(value.application && { application: application(value.application) }),
  });
  const application = (value: ApplicationConfig): ApplicationConfig => ({
    ...value,
    ...(value.routes && { routes: value.routes.map(route) }),
    ...(value.endpoints && { endpoints: value.endpoints.map(at) }),
    ...(value.files !== undefined && { files: at(value.files) }),
    ...(value.session && { session: session(value.session) }),
  });
  const pair = <T extends CertificateConfig>(value: T): T => ({
    ...value,
    certificate: at(value.certificate),
    key: at(value.key),
  });
  const tls = (value: NonNullable<ListenConfig['tls']>): NonNullable<ListenConfig['tls']> => {
    if (value === 'self-signed') return value;
    const { certificates, clientCertificates } = value;
    return {
      ...pair(value),
      ...(certificates && { certificates: certificates.map(pair) }),
      ...(clientCertificates && { clientCertificates: { ...clientCertificates, ca: at(clientCertificates.ca) } }),
    };
  };
  const server = (value: string) => (value.startsWith('unix:') ? `unix:${at(value.slice('unix:'.length))}` : value);
  const upstream = (value: UpstreamConfig): UpstreamConfig => ({
    ...value,
    servers: value.servers.map(one => (typeof one === 'string' ? server(one) : { ...one, url: server(one.url) })),
    ...(typeof value.sessionApi === 'object' &&
      value.sessionApi.tokenFile !== undefined && {
        sessionApi: { ...value.sessionApi, tokenFile: at(value.sessionApi.tokenFile) },
      }),
    ...(value.tls && {
      tls: {
        ...value.tls,
        ...(value.tls.ca !== undefined && { ca: at(value.tls.ca) }),
        ...(value.tls.certificate !== undefined && { certificate: at(value.tls.certificate) }),
        ...(value.tls.key !== undefined && { key: at(value.tls.key) }),
      },
    }),
  });
  return {
    ...config,
    ...(config.upstreams && {
      upstreams: Object.fromEntries(Object.entries(config.upstreams).map(([name, value]) => [name, upstream(value)])),
    }),
    ...(config.listen && {
      listen: config.listen.map(listener => ({
        ...listener,
        ...(listener.tls && { tls: tls(listener.tls) }),
        ...(listener.acmeChallenge !== undefined && { acmeChallenge: at(listener.acmeChallenge) }),
      })),
    }),
    ...(config.internal?.tls && { internal: { ...config.internal, tls: tls(config.internal.tls) } }),
    ...(config.assertions?.keyFiles && {
      assertions: { ...config.assertions, keyFiles: config.assertions.keyFiles.map(at) },
    }),
    ...(config.session && { session: session(config.session) }),
    ...(config.routes && { routes: config.routes.map(route) }),
    ...(config.endpoints && { endpoints: config.endpoints.map(at) }),
    dataFolder: at(config.dataFolder ?? '.holdfast'),
  };
}
