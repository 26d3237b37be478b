import type { Duplex } from 'node:stream';
import { CalmLogger } from '../../base/calm-logger.ts';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { parseSize } from '../../base/size.ts';
import type { Config } from '../../config/config.ts';
import type { Gateway } from '../../gateway/admit.ts';
import type { SessionContext } from '../../gateway/held-session.ts';
import { OwnNames } from '../../gateway/own-names.ts';
import type { Relay } from '../../gateway/relay/relay.ts';
import type { Route } from '../../gateway/route.ts';
import { RouteReadings } from '../../gateway/route-readings.ts';
import { newInstanceName } from '../../gateway/routing/loop.ts';
import { createRouter, type RouteEntry } from '../../gateway/routing/router.ts';
import type { Ended } from '../../gateway/upgrade.ts';
import type { Upstream } from '../../gateway/upstream/upstream.ts';
import { createAddressList, doubtfulEntries } from '../../http/address-list.ts';
import { formsOf } from '../../session/identity/key-file.ts';
import { MemoryLedger } from '../../session/ledgers/memory.ts';
import type { SessionManager } from '../../session/manager.ts';
import type { DiskOptions } from '../../session/room/disk.ts';
import { Dispatcher } from '../../websocket/dispatcher.ts';
import type { ServedEndpoint } from '../../websocket/endpoint.ts';
import { TimerWheel } from '../../websocket/timer-wheel.ts';
import { Topics } from '../../websocket/topics.ts';
import { dataFolderOf } from '../data-folder.ts';
import type { InternalApi } from '../intakes/internal.ts';
import type { LineSink } from '../line-output.ts';
import { type AccessLog, createAccessLog, createLogger, reportLostLines } from '../logging.ts';
import { internalApi, openAssertionKeys } from './internal.ts';
import { buildRoutes } from './routes.ts';
import { openSessionContext, signingKeys } from './session-contexts.ts';
import { ledgerOf, makeUpstreams, shareMoves } from './upstreams.ts';

/** Everything that runs, wired together. */
export interface Assembly extends Gateway {
  readonly logger: CalmLogger;
  readonly accessLog: AccessLog;
  readonly endpoints: readonly ServedEndpoint<unknown>[];
  readonly upstreams: ReadonlyMap<string, Upstream>;
  /** What the internal listener serves; undefined when there is none. */
  readonly internal: InternalApi | undefined;
  /** The server's own sessions; mounted applications may have others. */
  readonly sessions: SessionContext | undefined;
  /** Those of mounted applications, by the whole prefix. */
  readonly mountedSessions: ReadonlyMap<string, SessionContext>;
  readonly sessionContexts: readonly SessionContext[];
  /** May clients be told why a backend gave no answer? */
  readonly exposeReason: boolean;
  /** Sockets that asked for an upgrade and have no answer yet, with what writes their line in the access log. */
  readonly handshakes: Map<Duplex, { end(ended: Ended): void }>;
  /** Whose handshakes were answered without a WebSocket: they are read until their clients have that answer. */
  readonly lingering: Set<Duplex>;
  /** Requests that have their line in the access log when their connection says that it is closed. */
  readonly unlogged: Set<object>;
  readonly relays: Set<Relay>;
}

/** Configuration in, all that runs out. When it rejects, nothing stays open. */
export async function build(
  config: Config,
  environment: { clock: Clock; logger?: Logger; accessLog?: LineSink; freeBytes?: DiskOptions['freeBytes'] },
): Promise<Assembly> {
  const { clock } = environment;
  const logger = CalmLogger.over(environment.logger ?? createLogger(config.log), clock);
  reportLostLines(logger);
  // In one line: of a warning that repeats, the log keeps the first.
  const doubts = doubtfulEntries(config.trustedProxies ?? []).map(({ message }) => message);
  if (doubts.length > 0) logger.warn({ event: 'trusted-proxies-doubtful' }, `trustedProxies: ${doubts.join('; ')}`);
  const dataFolder = dataFolderOf(config, environment.freeBytes);
  const own = new OwnNames(newInstanceName());
  const opened: SessionContext[] = [];
  const mountedSessions = new Map<string, SessionContext>();
  const started: ServedEndpoint<unknown>[] = [];
  let upstreams: ReadonlyMap<string, Upstream> | undefined;
  try {
    const openSessions = async (session: NonNullable<Exclude<Config['session'], false>>, mount: string) => {
      const context = await openSessionContext(session, mount, {
        clock,
        logger,
        dataFolder,
        isEveryListenerTls:
          config.listen?.every(({ tls, redirect }) => tls !== undefined || redirect !== undefined) ?? false,
      });
      opened.push(context);
      addNames(own, context.manager);
      if (mount !== '') mountedSessions.set(mount, context);
      return context;
    };
    const sessions = config.session === false ? undefined : await openSessions(config.session ?? {}, '');
    const assertionKeys = await openAssertionKeys(config, dataFolder);
    upstreams = await makeUpstreams(config.upstreams ?? {}, {
      ...{ own, clock, logger },
      // What else is signed with them is verified in each form, as tickets are.
      keys: async () => (await signingKeys(config.session || {}, dataFolder)).flatMap(formsOf),
      assertionKeys,
      issuer: config.assertions?.issuer ?? 'holdfast',
    });
    const entries = await buildRoutes(config, {
      ...{ logger, upstreams, sessions, openSessions, folder: process.cwd() },
      dispatchers: new Map(
        Object.entries(config.dispatch ?? {}).map(([name, options]) => [name, new Dispatcher(options)]),
      ),
    });
    const router = createRouter(entries);
    const internal = await internalApi(config, entries, { clock, logger, dataFolder, assertionKeys });
    for (const endpoint of endpointsOf(entries)) {
      await endpoint.start();
      started.push(endpoint);
    }
    for (const upstream of upstreams.values()) {
      const ledger = ledgerOf(upstream, entries, sessions);
      if (ledger) await shareMoves(upstream, ledger, logger);
      await upstream.observer?.start(ledger ?? new MemoryLedger({ clock }));
      upstream.start();
    }
    return {
      router,
      readings: new RouteReadings(entries, router),
      trustedProxies: createAddressList(config.trustedProxies ?? []),
      clock,
      logger,
      accessLog: createAccessLog(config.log, environment.accessLog, clock),
      services: { wheel: new TimerWheel(clock), topics: new Topics(), logger },
      endpoints: started,
      upstreams,
      internal,
      sessions,
      mountedSessions,
      sessionContexts: opened,
      instance: own.instance,
      urlParameters: urlParameters(opened),
      maxBodyBytes: parseSize(config.maxBodySize ?? '1MiB'),
      exposeReason: config.exposeReason ?? false,
      handshakes: new Map(),
      lingering: new Set(),
      unlogged: new Set(),
      relays: new Set(),
    };
  } catch (error) {
    await Promise.all([...(upstreams?.values() ?? [])].map(upstream => upstream.close()));
    await Promise.allSettled(started.map(endpoint => endpoint.stop()));
    await Promise.allSettled(opened.map(({ manager }) => manager.close()));
    throw error;
  }
}

/** What clients show a session by. */
function addNames(own: OwnNames, { tracking }: SessionManager): void {
  for (const name of tracking.ownCookies) own.cookies.add(name);
  if (tracking.kinds.includes('header')) own.headers.add(tracking.headerName.toLowerCase());
}

function urlParameters(contexts: readonly SessionContext[]): Set<string> {
  const tracked = contexts.filter(({ manager }) => manager.tracking.kinds.includes('url'));
  return new Set(tracked.map(({ manager }) => manager.tracking.urlParameter));
}

function endpointsOf(entries: readonly RouteEntry<Route>[]): Set<ServedEndpoint<unknown>> {
  return new Set(entries.flatMap(({ value: { target } }) => (target.kind === 'endpoint' ? [target.endpoint] : [])));
}
