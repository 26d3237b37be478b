import type { Clock } from '../../base/clock.ts';
import { defined } from '../../base/defined.ts';
import { parseDuration } from '../../base/duration.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { sameValue } from '../../base/same-value.ts';
import { parseSize } from '../../base/size.ts';
import { broughtManager } from '../../config/brought-manager.ts';
import type { SessionConfig } from '../../config/config.ts';
import type { SessionContext } from '../../gateway/held-session.ts';
import { keysInNamedFile, MIN_KEY_BYTES } from '../../session/identity/key-file.ts';
import { loadOrCreateKey } from '../../session/identity/key-ring.ts';
import { type Adaptation, SERVER_PARTS, SessionManager } from '../../session/manager.ts';
import type { SessionManagerOptions } from '../../session/options.ts';
import { MemoryStore } from '../../session/stores/memory.ts';
import { SessionSockets } from '../../websocket/session-sockets.ts';
import type { CloseCodes } from '../../wire/close-codes.ts';
import { type DataFolder, keysFolder } from '../data-folder.ts';
import { readNamedFile } from './named-file.ts';
import type { Parts } from './parts.ts';
import { type Backend, bytes, isStore, milliseconds, openBackend } from './session-stores.ts';

export interface SessionContextOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where a generated cookie key is kept. */
  readonly dataFolder: DataFolder;
  /** Every listener speaks TLS. */
  readonly isEveryListenerTls: boolean;
  /** They may change meanwhile. */
  readonly closeCodes: Readonly<CloseCodes>;
}

/** The sessions of a server or of a mounted application, open. */
export interface OpenSessions extends SessionContext {
  /** The server has made them. */
  readonly isOwn: boolean;
}

/** The sessions of a configuration that is being put together. */
export interface ComingSessions extends SessionContext {
  /** How clients show them once it counts: until then a manager that goes on has that of before. */
  readonly tracking: SessionManager['tracking'];
}

/** The sessions of a server and of the applications that are mounted in it. */
export class SessionContexts {
  /** Each manager once. */
  readonly opened: OpenSessions[] = [];
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Opens the sessions that a configuration describes, or joins those of the manager that it has. */
  async open(
    session: SessionConfig | SessionManager,
    mount: string,
    options: SessionContextOptions,
  ): Promise<ComingSessions> {
    const manager = broughtManager(session);
    const config = session === manager ? {} : (session as SessionConfig);
    const { opened, tracking } = manager
      ? { opened: await joinSessions(manager, options, this.#parts), tracking: manager.tracking }
      : await openSessions(config, mount, options, this.#parts);
    // Applications that bring the same one share its sockets, too.
    if (!this.opened.includes(opened)) this.opened.push(opened);
    return { ...opened, tracking, touchOnTraffic: config.touchOnTraffic ?? 'message' };
  }
}

/** Serves the sessions of a manager that the program has made: it is started, if it is not, and never closed. */
function joinSessions(
  manager: SessionManager,
  { logger, closeCodes }: SessionContextOptions,
  parts: Parts,
): Promise<OpenSessions> {
  return parts.keepOf('brought sessions', manager, {
    async make() {
      warnOfUrls(manager, logger);
      const sockets = new SessionSockets(closeCodes);
      const stop = manager.onSocketEnd((sid, why) => sockets.closeAll(sid, why));
      try {
        await manager.start();
      } catch (error) {
        stop();
        throw error;
      }
      const { ledger } = manager[SERVER_PARTS];
      return { manager, sockets, touchOnTraffic: 'message' as const, ledger, isOwn: false, stop };
    },
    close: ({ stop }) => stop(),
    isFoundation: true,
  });
}

/**
 * Makes and opens the sessions that a configuration describes. Those that run go on with other settings, where they can;
 * else others begin in the same store, if that is the same.
 */
async function openSessions(
  config: SessionConfig,
  mount: string,
  options: SessionContextOptions,
  parts: Parts,
): Promise<{ readonly opened: OpenSessions; readonly tracking: SessionManager['tracking'] }> {
  // Before the store is opened: when it fails there is nothing to close.
  const keys = await signingKeys(config, options.dataFolder);
  const backend = await openedBackend(config, mount, options, parts);
  const from = managerOptions(config, mount, { keys, backend, ...options });
  let next: Adaptation | undefined;
  const opened: OpenSessions = await parts.keep('sessions', mount, {
    from,
    async make() {
      // What is undefined is as if it were absent: the manager has its defaults.
      const manager = new SessionManager(from as SessionManagerOptions);
      warnOfUrls(manager, options.logger);
      const sockets = new SessionSockets(options.closeCodes);
      manager.onSocketEnd((sid, why) => sockets.closeAll(sid, why));
      try {
        await manager.start();
      } catch (error) {
        await manager[SERVER_PARTS].release().catch(() => {}); // the store that cannot be reached says so once
        throw error;
      }
      return { manager, sockets, touchOnTraffic: 'message' as const, ledger: backend.ledger, isOwn: true };
    },
    close: ({ manager }) => manager[SERVER_PARTS].release(),
    isFoundation: true,
    adapt: ({ manager }, before) => {
      if (before.store !== from.store || before.ledger !== from.ledger) return undefined;
      next = manager[SERVER_PARTS].adapt(from as SessionManagerOptions);
      return next && (() => next!.become());
    },
  });
  return { opened, tracking: next?.tracking ?? opened.manager.tracking };
}

async function openedBackend(
  config: SessionConfig,
  mount: string,
  options: SessionContextOptions,
  parts: Parts,
): Promise<Backend> {
  const { store = 'memory:', ledger, profile, coherence, maxSessions, anonymousShare } = config;
  if (isStore(store)) return broughtBackend(store, ledger, parts);
  const { path, disk } = options.dataFolder;
  const cap = { maxSessions, anonymousShare };
  // What is in memory alone is not lost for settings that do not concern it.
  const place = inMemory(store) ? {} : { profile, isRelaxed: coherence === 'relaxed', path, disk };
  const from = { store, ledger, cap, ...place };
  return parts.keep('store', mount, {
    from,
    make: () => openBackend(config, { ...options, disk }),
    close: async opened => {
      await opened.ledger?.close();
      await opened.store.close();
    },
    isFoundation: true,
    adapt: ({ store: opened }, before) =>
      opened instanceof MemoryStore && sameValue({ ...before, cap }, from)
        ? () => opened.limit(defined(cap))
        : undefined,
  });
}

/** The program's own objects: they are closed once, when no sessions use them, whatever else is said of these. */
async function broughtBackend(store: Backend['store'], ledger: Backend['ledger'], parts: Parts): Promise<Backend> {
  await parts.keepOf('store', store, { make: () => store, close: one => one.close() });
  if (ledger) await parts.keepOf('ledger', ledger, { make: () => ledger, close: one => one.close() });
  return { store, ledger };
}

function inMemory(store: NonNullable<SessionConfig['store']>): boolean {
  return store === 'memory:' || (typeof store === 'object' && 'url' in store && store.url === 'memory:');
}

function managerOptions(
  config: SessionConfig,
  mount: string,
  {
    keys,
    backend,
    clock,
    logger,
    isEveryListenerTls,
  }: SessionContextOptions & { keys: Uint8Array[]; backend: Backend },
): Options & Pick<SessionManagerOptions, 'store' | 'keys'> {
  const { maxSessions, anonymousShare } = config;
  return {
    ...toOptions(config),
    ...backend,
    // Those that keep a cap of their own have it.
    ...(backend.store.hasRoom === undefined && { maxSessions, anonymousShare }),
    keys,
    cookie: {
      ...config.cookie,
      // A mounted application has sessions of its own, so its cookie must not meet that of its neighbours.
      ...(mount !== '' && config.cookie?.path === undefined && { path: mount }),
      everyListenerIsSecure: isEveryListenerTls,
    },
    ...{ clock, logger },
  };
}

function warnOfUrls(manager: SessionManager, logger: Logger): void {
  if (!manager.tracking.kinds.includes('url')) return;
  logger.warn(
    { event: 'sessions-in-urls' },
    'sessions in URLs are seen in logs, histories and Referer headers; use cookies, or "header" for programs',
  );
}

/** The keys that sign what clients keep for us: those of the configuration, or one in the data folder. */
export async function signingKeys(
  { keyFiles }: Pick<SessionConfig, 'keyFiles'>,
  dataFolder: DataFolder,
): Promise<Uint8Array[]> {
  const files = keyFiles && (await Promise.all(keyFiles.map(readKeyFile)));
  return files?.flat() ?? [await loadOrCreateKey(keysFolder(dataFolder), dataFolder.disk)];
}

type Options = { -readonly [K in keyof SessionManagerOptions]?: SessionManagerOptions[K] | undefined };

function toOptions(config: SessionConfig): Options {
  const { write, sweep, cache, warnSize, rememberMe } = config;
  return {
    tracking: config.tracking,
    header: config.header,
    urlParameter: config.urlParameter,
    lifetime: config.lifetime,
    idleTimeoutMs: milliseconds(config.idleTimeout),
    absoluteTimeoutMs: milliseconds(config.absoluteTimeout),
    renewalTimeoutMs: milliseconds(config.renewalTimeout),
    profile: config.profile,
    write: typeof write === 'object' ? { everyMs: parseDuration(write.every) } : write,
    contents: config.contents,
    conflicts: config.conflicts,
    coherence: config.coherence,
    cacheSessions: cache?.sessions,
    cacheBytes: bytes(cache?.memory),
    overflow: config.overflow,
    maxSessionsPerUser: config.maxSessionsPerUser,
    rememberMe: rememberMe && {
      idleTimeoutMs: parseDuration(rememberMe.idleTimeout),
      absoluteTimeoutMs: parseDuration(rememberMe.absoluteTimeout),
    },
    ownerRule: config.ownerRule,
    maxAttributeBytes: bytes(config.maxAttributeSize),
    maxSessionBytes: bytes(config.maxSessionSize),
    warnSize: {
      ...(warnSize?.attribute !== undefined && { attributeBytes: parseSize(warnSize.attribute) }),
      ...(warnSize?.session !== undefined && { sessionBytes: parseSize(warnSize.session) }),
    },
    attributes: config.attributes,
    sweep: sweep && ('every' in sweep ? { everyMs: parseDuration(sweep.every) } : sweep),
    storeTimeoutMs: milliseconds(config.storeTimeout),
  };
}

const KEY_REMEDY = 'write at least 32 random bytes into it, for example with: openssl rand -base64 32';

async function readKeyFile(path: string): Promise<Uint8Array[]> {
  const where = 'session.keyFiles';
  const content = await readNamedFile(path, where, KEY_REMEDY);
  const problem = keyFileProblem(content, path);
  if (problem !== undefined) throw new HoldfastError('ERR_CONFIG_INVALID', `${where}: ${problem}`);
  return keysInNamedFile(content);
}

/** Why no key can be read from a file; undefined when one can. */
export function keyFileProblem(content: Buffer, path: string): string | undefined {
  const isKey = keysInNamedFile(content).every(({ length }) => length >= MIN_KEY_BYTES);
  return isKey ? undefined : `${path} does not hold a key; ${KEY_REMEDY}`;
}
