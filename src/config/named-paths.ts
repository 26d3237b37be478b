import type { AuthConfig } from './auth-config.ts';
import type { ApplicationConfig, CertificateConfig, Config, SessionConfig, TlsConfig } from './config.ts';

/**
 * What is named: a file or folder that must be there, a file that is written in a folder that must be, something that need
 * not be there, or a path behind a prefix only.
 */
export type PathKind = 'file' | 'folder' | 'written' | 'optional' | 'lmdb:' | 'unix:';

/** Where paths stand in a `T`. Of a list it says where they stand in each entry; `*` is every key. */
type Places<T> = T extends string
  ? PathKind
  : T extends readonly (infer E)[]
    ? Places<E>
    : T extends object
      ? { readonly [K in keyof T]?: Places<T[K]> }
      : never;

const PAIR: Places<CertificateConfig> = { certificate: 'file', key: 'file' };
const TLS: Places<TlsConfig> = { ...PAIR, certificates: PAIR, clientCertificates: { ca: 'file', crl: 'file' } };
const SESSION: Places<SessionConfig> = { store: 'lmdb:', keyFiles: 'file' };
const APPLICATION: Places<ApplicationConfig> = {
  files: 'folder',
  endpoints: 'optional',
  session: SESSION,
  routes: {
    files: 'folder',
    get application() {
      return APPLICATION;
    },
  },
};
/** Of schemes of every type: names of paths mean the same in all of them. */
const AUTH: Places<AuthConfig> = {
  file: 'file',
  groups: 'file',
  page: { style: 'file' },
  jwksFile: 'file',
  publicKeyFile: 'file',
  secretFile: 'file',
  revokedFile: 'file',
  clientSecretFile: 'file',
};
const CONFIG: Places<Config> = {
  listen: { acmeChallenge: 'folder', socket: 'written', tls: TLS },
  internal: { tls: TLS },
  admin: { tls: TLS, tokenFile: 'file', socket: 'optional' },
  session: SESSION,
  assertions: { keyFiles: 'file' },
  auth: { '*': AUTH },
  upstreams: {
    '*': { servers: 'unix:', sessionApi: { tokenFile: 'file' }, tls: { ca: 'file', certificate: 'file', key: 'file' } },
  },
  routes: APPLICATION.routes,
  endpoints: 'optional',
  dataFolder: 'optional',
  log: { server: { file: 'written' }, access: { file: 'written' }, security: { file: 'written' } },
};

/** Called with each path of a configuration, its kind, and where it stands. @returns what takes its place. */
export type ChangePath = (text: string, kind: PathKind, at: readonly PropertyKey[]) => string;

/** The same configuration with every path in it replaced. What holds no path that changes stays the same object. */
export function mapPaths(config: Config, change: ChangePath): Config {
  return mapped(config, CONFIG as Tree, change, []) as Config;
}

type Tree = PathKind | { readonly [key: string]: Tree };

function mapped(value: unknown, places: Tree, change: ChangePath, at: readonly PropertyKey[]): unknown {
  if (Array.isArray(value)) {
    const entries = value.map((entry, index) => mapped(entry, places, change, [...at, index]));
    return entries.some((entry, index) => entry !== value[index]) ? entries : value;
  }
  if (typeof value === 'string') return typeof places === 'string' ? change(value, places, at) : value;
  if (typeof value !== 'object' || value === null) return value;
  const fields = value as Record<string, unknown>;
  // A store or a server is its URL, or has it among its settings.
  const { '*': each, ...named } = typeof places === 'string' ? { url: places } : places;
  const inner = Object.entries(each ? Object.fromEntries(Object.keys(fields).map(key => [key, each])) : named);
  const all = inner.map(([key, place]) => [key, mapped(fields[key], place, change, [...at, key])] as const);
  const changes = all.filter(([key, now]) => now !== fields[key]);
  // A live object that only looks like settings must not become a copy without its methods.
  return changes.length === 0 ? value : { ...fields, ...Object.fromEntries(changes) };
}
