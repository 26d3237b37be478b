import type { Clock } from '../../base/clock.ts';
import { parseDuration } from '../../base/duration.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { parseSize } from '../../base/size.ts';
import { broughtManager } from '../../config/brought-manager.ts';
import type { SessionConfig } from '../../config/config.ts';
import type { SessionContext } from '../../gateway/held-session.ts';
import { keysInNamedFile, MIN_KEY_BYTES } from '../../session/identity/key-file.ts';
import { loadOrCreateKey } from '../../session/identity/key-ring.ts';
import { SERVER_PARTS, SessionManager } from '../../session/manager.ts';
import type { SessionManagerOptions } from '../../session/options.ts';
import { SessionSockets } from '../../websocket/session-sockets.ts';
import { type DataFolder, keysFolder } from '../data-folder.ts';
import { readNamedFile } from './named-file.ts';
import { bytes, milliseconds, openBackend } from './session-stores.ts';

export interface SessionContextOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where a generated cookie key is kept. */
  readonly dataFolder: DataFolder;
  /** Every listener speaks TLS. */
  readonly isEveryListenerTls: boolean;
}

/** The sessions of a server or of a mounted application, open. */
export interface OpenSessions extends SessionContext {
  /** Lets go of them. The manager is closed, and with it store and ledger, if it was made here. */
  close(): Promise<void>;
}

/** The sessions of a server and of the applications that are mounted in it. */
export class SessionContexts {
  /** Each manager once. */
  readonly opened: OpenSessions[] = [];
  readonly #joined = new Map<SessionManager, OpenSessions>();

  /** Opens the sessions that a configuration describes, or joins those of the manager that it has. */
  async open(
    session: SessionConfig | SessionManager,
    mount: string,
    options: SessionContextOptions,
  ): Promise<SessionContext> {
    const manager = broughtManager(session);
    if (!manager) return this.#keep(await openSessions(session as SessionConfig, mount, options));
    // Applications that bring the same one share its sockets, too.
    const joined = this.#joined.get(manager) ?? this.#keep(await joinSessions(manager, options.logger));
    this.#joined.set(manager, joined);
    const { touchOnTraffic = 'message' } = session === manager ? {} : (session as SessionConfig);
    return { ...joined, touchOnTraffic };
  }

  #keep(opened: OpenSessions): OpenSessions {
    this.opened.push(opened);
    return opened;
  }
}

/** Serves the sessions of a manager that the program has made: it is started, if it is not, and never closed. */
async function joinSessions(manager: SessionManager, logger: Logger): Promise<OpenSessions> {
  warnOfUrls(manager, logger);
  const sockets = new SessionSockets();
  const stop = manager.onSocketEnd((sid, why) => sockets.closeAll(sid, why));
  try {
    await manager.start();
  } catch (error) {
    stop();
    throw error;
  }
  const { ledger } = manager[SERVER_PARTS];
  return { manager, sockets, touchOnTraffic: 'message', ledger, close: async () => stop() };
}

/** Makes and opens the sessions that a configuration describes. */
async function openSessions(
  config: SessionConfig,
  mount: string,
  options: SessionContextOptions,
): Promise<OpenSessions> {
  const { maxSessions, anonymousShare } = config;
  // Before the store is opened: when it fails there is nothing to close.
  const keys = await signingKeys(config, options.dataFolder);
  const backend = await openBackend(config, { ...options, disk: options.dataFolder.disk });
  const manager = await createManager({
    ...toOptions(config),
    ...backend,
    // Those that keep a cap of their own have it.
    ...(backend.store.hasRoom === undefined && { maxSessions, anonymousShare }),
    keys,
    cookie: {
      ...config.cookie,
      // A mounted application has sessions of its own, so its cookie must not meet that of its neighbours.
      ...(mount !== '' && config.cookie?.path === undefined && { path: mount }),
      everyListenerIsSecure: options.isEveryListenerTls,
    },
    clock: options.clock,
    logger: options.logger,
  });
  warnOfUrls(manager, options.logger);
  const sockets = new SessionSockets();
  manager.onSocketEnd((sid, why) => sockets.closeAll(sid, why));
  try {
    await manager.start();
  } catch (error) {
    await manager.close().catch(() => {}); // the store that cannot be reached says so once
    throw error;
  }
  const { touchOnTraffic = 'message' } = config;
  return { manager, sockets, touchOnTraffic, ledger: backend.ledger, close: () => manager.close() };
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

/** When an option cannot work, nothing stays open. */
async function createManager(
  options: Options & Pick<SessionManagerOptions, 'store' | 'keys'>,
): Promise<SessionManager> {
  try {
    // What is undefined is as if it were absent: the manager has its defaults.
    return new SessionManager(options as SessionManagerOptions);
  } catch (error) {
    await Promise.allSettled([options.store.close(), options.ledger?.close()]);
    throw error;
  }
}

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
