import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { CalmLogger } from '../../base/calm-logger.ts';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { SecurityEventName } from '../../base/security-events.ts';
import { SetMap } from '../../base/set-map.ts';
import { parseSize } from '../../base/size.ts';
import { broughtManager } from '../../config/brought-manager.ts';
import type { Config, LimitsConfig, SessionConfig } from '../../config/config.ts';
import type { Gateway } from '../../gateway/admit.ts';
import { AuthRenewals } from '../../gateway/auth-renewals.ts';
import type { FlowObserver } from '../../gateway/flow-observer.ts';
import type { SessionContext } from '../../gateway/held-session.ts';
import { LiveCertificates } from '../../gateway/live-certificates.ts';
import type { LiveSockets } from '../../gateway/live-sockets.ts';
import { LiveUsers } from '../../gateway/live-users.ts';
import { OwnNames } from '../../gateway/own-names.ts';
import type { Route } from '../../gateway/route.ts';
import { RouteReadings } from '../../gateway/route-readings.ts';
import { newInstanceName } from '../../gateway/routing/loop.ts';
import { createRouter, type RouteEntry } from '../../gateway/routing/router.ts';
import type { Ended } from '../../gateway/upgrade.ts';
import type { Upstream } from '../../gateway/upstream/upstream.ts';
import { createAddressList, doubtfulEntries } from '../../http/address-list.ts';
import { createAddressPolicy } from '../../policy/address.ts';
import { Anomalies } from '../../policy/anomaly.ts';
import { readAnomalySettings } from '../../policy/anomaly-options.ts';
import { Bans } from '../../policy/ban/bans.ts';
import { readBanSettings } from '../../policy/ban/options.ts';
import type { Limits } from '../../policy/limits/limits.ts';
import { SharedLimits } from '../../policy/limits/shared-limits.ts';
import { SecurityEvents } from '../../policy/security-events.ts';
import { warnOfClash } from '../../session/cookie-clash.ts';
import { formsOf } from '../../session/identity/key-file.ts';
import { MemoryLedger } from '../../session/ledgers/memory.ts';
import { SERVER_PARTS, type SessionManager } from '../../session/manager.ts';
import type { DiskOptions } from '../../session/room/disk.ts';
import type { ServedEndpoint } from '../../websocket/endpoint.ts';
import { TimerWheel } from '../../websocket/timer-wheel.ts';
import { Topics } from '../../websocket/topics.ts';
import { dataFolderOf } from '../data-folder.ts';
import type { InternalApi } from '../intakes/internal.ts';
import type { AccessLog } from '../log/access-log.ts';
import type { LineSink } from '../log/line-output.ts';
import { LogControl } from '../log/log-control.ts';
import type { ServerMeters } from '../metrics/meters.ts';
import { internalApi, openAssertionKeys } from './internal.ts';
import { serverLimits } from './limits.ts';
import { buildRoutes, dispatchersOf } from './routes.ts';
import { Schemes } from './schemes.ts';
import { type OpenSessions, SessionContexts, signingKeys } from './session-contexts.ts';
import { ledgerOf, makeUpstreams, shareMoves } from './upstreams.ts';

/** Everything that runs, wired together. */
export interface Assembly extends Gateway {
  /** Of the part `gateway`. */
  readonly logger: CalmLogger;
  readonly logs: LogControl;
  readonly accessLog: AccessLog;
  readonly bans: Bans;
  readonly endpoints: readonly ServedEndpoint<unknown>[];
  readonly upstreams: ReadonlyMap<string, Upstream>;
  readonly schemes: Schemes;
  /** What the internal listener serves; undefined when there is none. */
  readonly internal: InternalApi | undefined;
  /** The server's own sessions; mounted applications may have others. */
  readonly sessions: SessionContext | undefined;
  /** These, and those of mounted applications. */
  readonly openSessions: readonly OpenSessions[];
  /** Whose sessions the routes have, each once. */
  readonly managers: ReadonlySet<SessionManager>;
  /** End what it hears of ledgers. To be called before these are closed. */
  readonly subscriptions: readonly (() => Promise<void>)[];
  /** May clients be told why a backend gave no answer? */
  readonly exposeReason: boolean;
  /** Sockets that asked for an upgrade and have no answer yet, with what writes their line in the access log. */
  readonly handshakes: Map<Duplex, { end(ended: Ended): void }>;
  /** Whose handshakes were answered without a WebSocket: they are read until their clients have that answer. */
  readonly lingering: Set<Duplex>;
  /** Requests that have their line in the access log when their connection says that it is closed. */
  readonly unlogged: Set<object>;
  /** Answers under way to clients that trusted proxies bring, whose connections are of others, too; by address. */
  readonly brought: Map<ServerResponse, string>;
  readonly sockets: LiveSockets;
  /** Of mounted applications and routes, besides those of the server. */
  readonly routeLimits: readonly Limits[];
  /** Undefined: nobody asks for metrics. */
  readonly meters?: ServerMeters | undefined;
}

/** Configuration in, all that runs out. When it rejects, nothing stays open. */
export async function build(
  config: Config,
  environment: {
    readonly clock: Clock;
    readonly logger?: Logger;
    /** Logs that are open already. Default: those of the configuration. */
    readonly logs?: LogControl;
    readonly accessLog?: LineSink;
    readonly freeBytes?: DiskOptions['freeBytes'];
    /** Called with each manager when its store is open, before anything uses it; `mount` is `''` for the server's own. */
    /** Where clients reach TLS. */
    readonly httpsPort: () => number;
    readonly observer?: FlowObserver | undefined;
    /** Live as long as the server. Left out: nothing is counted. */
    readonly meters?: ServerMeters | undefined;
    readonly onSessions?: (mount: string, manager: SessionManager) => void;
  },
): Promise<Assembly> {
  const { clock, meters, observer, logger: ownLogger, accessLog } = environment;
  const logs = environment.logs ?? LogControl.open(config.log, { clock, logger: ownLogger, accessLog });
  if (meters) logs.meters = meters;
  const logger = logs.logger.of('server');
  // In one line: of a warning that repeats, the log keeps the first.
  const doubts = doubtfulEntries(config.trustedProxies ?? []).map(({ message }) => message);
  if (doubts.length > 0) logger.warn({ event: 'trusted-proxies-doubtful' }, `trustedProxies: ${doubts.join('; ')}`);
  const trustedProxies = createAddressList(config.trustedProxies ?? []);
  const dataFolder = dataFolderOf(config, environment.freeBytes);
  const own = new OwnNames(newInstanceName());
  logs.hide(own);
  const contexts = new SessionContexts();
  const started: ServedEndpoint<unknown>[] = [];
  const subscriptions: (() => Promise<void>)[] = [];
  const security = new SecurityEvents(logger.of('policy'));
  if (meters) security.listen(({ event }) => meters.securityEvents.add(event as SecurityEventName));
  const schemes = new Schemes(config, { clock, logger: logger.of('policy'), security, own });
  const users = new LiveUsers({ clock, logger: logger.of('gateway'), security });
  const renewals = new AuthRenewals(users, { clock, logger: logger.of('gateway') });
  let upstreams: ReadonlyMap<string, Upstream> | undefined;
  let bans: Bans | undefined;
  let anomalies: Anomalies | undefined;
  try {
    const isEveryListenerTls =
      config.listen?.every(({ tls, redirect }) => tls !== undefined || redirect !== undefined) ?? false;
    const contextOptions = { clock, logger: logger.of('session'), dataFolder, isEveryListenerTls };
    const openContext = async (session: SessionConfig | SessionManager, mount: string) => {
      const context = await contexts.open(session, mount, contextOptions);
      addNames(own, context.manager);
      if (mount !== '') environment.onSessions?.(mount, context.manager);
      return context;
    };
    const sessions = config.session === false ? undefined : await openContext(config.session ?? {}, '');
    if (sessions) environment.onSessions?.('', sessions.manager);
    const assertionKeys = await openAssertionKeys(config, dataFolder);
    upstreams = await makeUpstreams(config.upstreams ?? {}, {
      ...{ own, clock, logger: logger.of('gateway') },
      // What else is signed with them is verified in each form, as tickets are.
      keys: async () => {
        const keys = broughtManager(config.session)?.[SERVER_PARTS].keys;
        return (keys ?? (await signingKeys((config.session || {}) as SessionConfig, dataFolder))).flatMap(formsOf);
      },
      assertionKeys,
      issuer: config.assertions?.issuer ?? 'holdfast',
    });
    const limits = serverLimits(config.policy?.limits, { clock, logger: logger.of('policy'), trustedProxies });
    const routeLimits = new Map<LimitsConfig, Limits>();
    bans = new Bans(readBanSettings(config.bans), {
      ...{ clock, logger: logger.of('policy'), events: security, trustedProxies },
      ledger: sessions?.ledger ?? contexts.opened.find(({ ledger }) => ledger)?.ledger,
    });
    await bans.start();
    const anomalySettings = readAnomalySettings(config.anomalies);
    anomalies = anomalySettings && new Anomalies(anomalySettings, { clock, events: security, bans });
    const entries = await buildRoutes(config, {
      ...{
        clock,
        own,
        ledger: new MemoryLedger({ clock }),
        logger: logger.of('policy'),
        security,
        upstreams,
        schemes,
        sessions,
        openSessions: openContext,
        folder: process.cwd(),
      },
      httpsPort: environment.httpsPort,
      ...{ limits: routeLimits, serverFrames: limits.frames, trustedProxies },
      dispatchers: dispatchersOf(config),
    });
    const managers = managersByHost(entries);
    warnOfClashes(managers, logger);
    const router = createRouter(entries);
    await schemes.start();
    if (Object.keys(config.auth ?? {}).length > 0)
      for (const { ledger } of contexts.opened) if (ledger) subscriptions.push(await renewals.listen(ledger));
    const internal = await internalApi(config, entries, { clock, logger, dataFolder, assertionKeys });
    for (const endpoint of endpointsOf(entries)) {
      await endpoint.start({ clock, logger: logger.of('websocket') });
      started.push(endpoint);
    }
    const sharedLimits = [limits, ...routeLimits.values()].filter(({ isShared }) => isShared);
    if (sharedLimits.length > 0 && sessions?.ledger) {
      const shared = await SharedLimits.start(sharedLimits, {
        ledger: sessions.ledger,
        clock,
        logger: logger.of('policy'),
      });
      subscriptions.push(() => shared.close());
    }
    for (const upstream of upstreams.values()) {
      const ledger = ledgerOf(upstream, entries, sessions);
      if (ledger) subscriptions.push(await shareMoves(upstream, ledger, logger.of('gateway')));
      await upstream.observer?.start(ledger ?? new MemoryLedger({ clock }));
      upstream.start();
    }
    return {
      router,
      readings: new RouteReadings(entries, router),
      trustedProxies,
      addresses: config.policy?.addresses && createAddressPolicy(config.policy.addresses),
      limits,
      clock,
      logger: logger.of('gateway'),
      security,
      bans,
      anomalies,
      logs,
      accessLog: logs.accessLog,
      ...{ schemes, users, renewals, certificates: new LiveCertificates() },
      services: { wheel: new TimerWheel(clock), topics: new Topics(), logger: logger.of('websocket') },
      endpoints: started,
      upstreams,
      internal,
      sessions,
      openSessions: contexts.opened,
      managers: new Set([...managers.values()].flatMap(ofHost => [...ofHost])),
      subscriptions,
      instance: own.instance,
      urlParameters: urlParameters(contexts.opened),
      maxBodyBytes: parseSize(config.maxBodySize ?? '1MiB'),
      exposeReason: config.exposeReason ?? false,
      handshakes: new Map(),
      lingering: new Set(),
      unlogged: new Set(),
      brought: new Map(),
      sockets: new Set(),
      routeLimits: [...routeLimits.values()],
      meters,
      observer,
    };
  } catch (error) {
    await Promise.all([...(upstreams?.values() ?? [])].map(upstream => upstream.close()));
    await Promise.allSettled(started.map(endpoint => endpoint.stop()));
    await schemes.close();
    await Promise.allSettled(subscriptions.map(unsubscribe => unsubscribe()));
    anomalies?.close();
    await bans?.close().catch(() => {});
    await Promise.allSettled(contexts.opened.map(sessions => sessions.close()));
    if (!environment.logs) logs.close();
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

/** Whose sessions its routes have; under `''` those of every host. */
function managersByHost(entries: readonly RouteEntry<Route>[]): SetMap<string, SessionManager> {
  const managers = new SetMap<string, SessionManager>();
  for (const { host = '', value } of entries)
    if (value.sessions && value.sessionMode !== 'none') managers.add(host, value.sessions.manager);
  return managers;
}

/** Of those whose sessions a client can have at one host. */
function warnOfClashes(managers: SetMap<string, SessionManager>, logger: Logger): void {
  const ofAll = managers.get('') ?? [];
  for (const ofHost of managers.values())
    for (const one of ofHost) for (const other of [...ofHost, ...ofAll]) warnOfClash(one, other, logger);
}

function endpointsOf(entries: readonly RouteEntry<Route>[]): Set<ServedEndpoint<unknown>> {
  return new Set(entries.flatMap(({ value: { target } }) => (target.kind === 'endpoint' ? [target.endpoint] : [])));
}
