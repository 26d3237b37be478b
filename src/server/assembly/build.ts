import type { CalmLogger } from '../../base/calm-logger.ts';
import { defined } from '../../base/defined.ts';
import type { Logger } from '../../base/logger.ts';
import { SetMap } from '../../base/set-map.ts';
import { parseSize } from '../../base/size.ts';
import { broughtManager } from '../../config/brought-manager.ts';
import type { Config, LimitsConfig, SessionConfig } from '../../config/config.ts';
import type { Gateway } from '../../gateway/admit.ts';
import type { AuthRenewals } from '../../gateway/auth-renewals.ts';
import type { FlowObserver } from '../../gateway/flow-observer.ts';
import type { SessionContext } from '../../gateway/held-session.ts';
import type { OwnNames } from '../../gateway/own-names.ts';
import type { Route } from '../../gateway/route.ts';
import { RouteReadings } from '../../gateway/route-readings.ts';
import { createRouter, type RouteEntry } from '../../gateway/routing/router.ts';
import type { Upstream } from '../../gateway/upstream/upstream.ts';
import { createAddressList, doubtfulEntries, type ReplaceableAddressList } from '../../http/address-list.ts';
import { RequestIds } from '../../http/request-id.ts';
import { createAddressPolicy } from '../../policy/address.ts';
import { Anomalies } from '../../policy/anomaly.ts';
import { readAnomalySettings } from '../../policy/anomaly-options.ts';
import { Bans } from '../../policy/ban/bans.ts';
import { readBanSettings } from '../../policy/ban/options.ts';
import type { Limits } from '../../policy/limits/limits.ts';
import { SharedLimits } from '../../policy/limits/shared-limits.ts';
import { warnOfClash } from '../../session/cookie-clash.ts';
import { formsOf } from '../../session/identity/key-file.ts';
import type { Ledger } from '../../session/ledger.ts';
import { SERVER_PARTS, type SessionManager } from '../../session/manager.ts';
import type { DiskOptions } from '../../session/room/disk.ts';
import type { Dispatcher } from '../../websocket/dispatcher.ts';
import type { ServedEndpoint } from '../../websocket/endpoint.ts';
import { USUAL_CLOSE_CODES } from '../../wire/close-codes.ts';
import { dataFolderOf } from '../data-folder.ts';
import type { InternalApi } from '../intakes/internal.ts';
import type { AccessLog } from '../log/access-log.ts';
import { drainSettings } from './drain-settings.ts';
import { internalApi, openAssertionKeys } from './internal.ts';
import { type KnownRoutes, knownRoutes } from './known-routes.ts';
import type { ServerLife } from './life.ts';
import { serverLimits } from './limits.ts';
import type { Parts } from './parts.ts';
import { buildRoutes, dispatcherOf, dispatchersOf } from './routes.ts';
import { RunningRequests } from './running-requests.ts';
import { makeSchemes, type Schemes } from './schemes.ts';
import { SessionContexts, signingKeys } from './session-contexts.ts';
import { ledgerOf, makeUpstreams, shareMoves } from './upstreams.ts';

/** Everything that runs, wired together. */
export interface Assembly extends Gateway, ServerLife {
  readonly logger: CalmLogger;
  readonly trustedProxies: ReplaceableAddressList;
  readonly config: Config;
  readonly accessLog: AccessLog;
  readonly bans: Bans;
  /** Whom the server serves; those of `life` beside them have connections only. */
  readonly served: ReadonlySet<ServedEndpoint<unknown>>;
  readonly routes: KnownRoutes;
  readonly upstreams: ReadonlyMap<string, Upstream>;
  readonly schemes: Schemes;
  /** What the internal listener serves; undefined when there is none. */
  readonly internal: InternalApi | undefined;
  /** The server's own sessions; mounted applications may have others. */
  readonly sessions: SessionContext | undefined;
  /** These, and those of mounted applications, by their mounts: `''` for its own. */
  readonly managersByMount: ReadonlyMap<string, SessionManager>;
  /** The same, each once. */
  readonly openManagers: ReadonlySet<SessionManager>;
  /** Whose sessions the routes have, each once. */
  readonly managers: ReadonlySet<SessionManager>;
  /** May clients be told why a backend gave no answer? */
  readonly exposeReason: boolean;
  /** Of mounted applications and routes, besides those of the server. */
  readonly routeLimits: readonly Limits[];
  /** Requests that it has begun to judge and that are not answered. */
  readonly running: RunningRequests;
}

export interface BuildEnvironment {
  readonly life: ServerLife;
  /** What goes on as it is where it stays the same is there already. */
  readonly parts: Parts;
  readonly freeBytes?: DiskOptions['freeBytes'] | undefined;
  /** Where clients reach TLS. */
  readonly httpsPort: () => number;
  readonly observer?: FlowObserver | undefined;
  /** Called with each manager when its store is open, before anything uses it; `mount` is `''` for the server's own. */
  readonly onSessions?: (mount: string, manager: SessionManager) => void;
}

/**
 * Configuration in, all that runs out. When it rejects, `parts` is to be abandoned. Nothing that ran before has changed
 * before `parts` is committed.
 */
export async function build(config: Config, environment: BuildEnvironment): Promise<Assembly> {
  const { life, parts } = environment;
  const { clock, own, security, trustedProxies } = life;
  const logger = life.logger.of('server');
  const [ofGateway, ofPolicy] = [logger.of('gateway'), logger.of('policy')];
  // In one line: of a warning that repeats, the log keeps the first.
  const doubts = doubtfulEntries(config.trustedProxies ?? []).map(({ message }) => message);
  if (doubts.length > 0) logger.warn({ event: 'trusted-proxies-doubtful' }, `trustedProxies: ${doubts.join('; ')}`);
  const proxies = createAddressList(config.trustedProxies ?? []);
  parts.onCommit(() => trustedProxies.become(proxies));
  const requestIds = new RequestIds(config.requestId);
  parts.onCommit(() => {
    own.requestIds = requestIds;
  });
  const dataFolder = dataFolderOf(config, environment.freeBytes);
  const contexts = new SessionContexts(parts);
  const managersByMount = new Map<string, SessionManager>();
  const isEveryListenerTls =
    config.listen?.every(({ tls, redirect }) => tls !== undefined || redirect !== undefined) ?? false;
  const { closeCodes } = life;
  parts.onCommit(() => void Object.assign(closeCodes, { ...USUAL_CLOSE_CODES, ...defined(config.closeCodes ?? {}) }));
  const contextOptions = { clock, logger: logger.of('session'), dataFolder, isEveryListenerTls, closeCodes };
  const openContext = async (session: SessionConfig | SessionManager, mount: string) => {
    const context = await contexts.open(session, mount, contextOptions);
    // Those of a configuration that is refused are nobody's.
    parts.onCommit(() => addNames(own, context.tracking));
    managersByMount.set(mount, context.manager);
    environment.onSessions?.(mount, context.manager);
    return context;
  };
  const sessions = config.session === false ? undefined : await openContext(config.session ?? {}, '');
  const assertionKeys = await openAssertionKeys(config, dataFolder, parts);
  const upstreams = await makeUpstreams(config.upstreams ?? {}, {
    ...{ own, clock, logger: ofGateway, parts, closeCodes },
    // What else is signed with them is verified in each form, as tickets are.
    keys: async () => {
      const keys = broughtManager(config.session)?.[SERVER_PARTS].keys;
      return (keys ?? (await signingKeys((config.session || {}) as SessionConfig, dataFolder))).flatMap(formsOf);
    },
    assertionKeys,
    issuer: config.assertions?.issuer ?? 'holdfast',
    spreadMs: drainSettings(config).overMs,
  });
  const limits = parts.keepNow('limits', '', {
    from: config.policy?.limits,
    make: () => serverLimits(config.policy?.limits, { clock, logger: ofPolicy, trustedProxies }),
  });
  const routeLimits = new Map<LimitsConfig, Limits>();
  const bans = await openBans(config, sessions?.ledger ?? contexts.opened.find(({ ledger }) => ledger)?.ledger, {
    life,
    parts,
  });
  const anomalySettings = readAnomalySettings(config.anomalies);
  const anomalies =
    anomalySettings &&
    parts.keepNow('anomalies', '', {
      from: { anomalySettings, bans },
      make: () => new Anomalies(anomalySettings, { clock, events: security, bans }),
      close: one => one.close(),
      // Its successor hears the same.
      retire: one => one.close(),
    });
  const schemes = await makeSchemes(config, { clock, logger: ofPolicy, security, own }, parts);
  const dispatchers = dispatchersOf(config, parts);
  const entries = await buildRoutes(config, {
    ...{ clock, own, logger: ofPolicy, security, upstreams, schemes, sessions, parts },
    ledger: life.ledger,
    openSessions: openContext,
    folder: process.cwd(),
    httpsPort: environment.httpsPort,
    ...{ limits: routeLimits, serverFrames: limits.frames, trustedProxies },
    dispatchers,
  });
  const managers = managersByHost(entries);
  warnOfClashes(managers, logger);
  const router = createRouter(entries);
  if (Object.keys(config.auth ?? {}).length > 0)
    for (const { ledger } of contexts.opened) if (ledger) await hear(ledger, life.renewals, parts);
  const internal = await internalApi(config, entries, { clock, logger, dataFolder, assertionKeys });
  const served = endpointsOf(entries);
  const dispatcherNow = (endpoint: ServedEndpoint<unknown>) => dispatcherOf(endpoint, dispatchers);
  await renewThreads(new Set([...served].flatMap(one => dispatcherNow(one) ?? [])), life, parts);
  for (const endpoint of served) await startEndpoint(endpoint, dispatcherNow(endpoint), life, parts);
  await shareLimits([limits, ...routeLimits.values()], sessions?.ledger, life, parts);
  for (const upstream of upstreams.values()) await startUpstream(upstream, entries, sessions, life, parts);
  return {
    ...life,
    instance: own.instance,
    config,
    observer: environment.observer,
    router,
    readings: new RouteReadings(entries, router),
    routes: knownRoutes(entries),
    addresses: config.policy?.addresses && createAddressPolicy(config.policy.addresses),
    ...{ limits, bans, anomalies, schemes, served, upstreams, internal, sessions, managersByMount },
    accessLog: life.logs.accessLog,
    managers: new Set([...managers.values()].flatMap(ofHost => [...ofHost])),
    openManagers: new Set(managersByMount.values()),
    urlParameters: own.urlParameters,
    maxBodyBytes: parseSize(config.maxBodySize ?? '1MiB'),
    exposeReason: config.exposeReason ?? false,
    requestIds,
    routeLimits: [...routeLimits.values()],
    running: new RunningRequests(),
  };
}

interface Surroundings {
  readonly life: ServerLife;
  readonly parts: Parts;
}

function openBans(config: Config, ledger: Ledger | undefined, { life, parts }: Surroundings): Promise<Bans> {
  const settings = readBanSettings(config.bans);
  const { clock, security: events, trustedProxies } = life;
  const logger = life.logger.of('policy');
  return parts.keep('bans', '', {
    from: { settings, ledger },
    async make(before) {
      const bans = new Bans(settings, { clock, logger, events, trustedProxies, ledger });
      await bans.start();
      if (before) bans.takeOver(before.list());
      return bans;
    },
    close: bans => bans.close(),
    // Its successor hears the same.
    retire: bans => bans.close(),
    adapt: (bans, before) => (before.ledger === ledger ? () => bans.adopt(settings) : undefined),
  });
}

async function hear(ledger: Ledger, renewals: AuthRenewals, parts: Parts): Promise<void> {
  await parts.keepOf('renewals', ledger, { make: () => renewals.listen(ledger), close: stop => stop() });
}

/** A thread keeps the modules that it has loaded: where their files have changed, others take its place. */
async function renewThreads(dispatchers: Iterable<Dispatcher>, { logs }: ServerLife, parts: Parts): Promise<void> {
  const changed = new Set<string>();
  for (const dispatcher of dispatchers) {
    const ofThese = (await dispatcher.threads?.changedFiles()) ?? [];
    if (ofThese.length === 0) continue;
    for (const file of ofThese) changed.add(file);
    const { commit, abandon } = dispatcher.renewThreads();
    parts.onAbandon(abandon);
    parts.onCommit(commit);
  }
  if (changed.size === 0) return;
  const files = [...changed];
  const message = `new threads run the handlers: ${files.join(', ')} changed`;
  parts.onCommit(() => logs.uncounted.info({ event: 'threads-renewed', files, part: 'websocket' }, message));
}

/** One that is not served any more goes when its last connection has gone. */
async function startEndpoint(
  endpoint: ServedEndpoint<unknown>,
  dispatcher: Dispatcher | undefined,
  life: ServerLife,
  parts: Parts,
): Promise<void> {
  const { clock, endpoints } = life;
  const services = { clock, logger: life.logger.of('websocket') };
  await parts.keepOf('endpoint', endpoint, {
    async make() {
      await endpoint.start(services);
      endpoints.add(endpoint);
      return endpoint;
    },
    idle: () => endpoint.emptied(),
    async close() {
      try {
        await endpoint.stop();
      } finally {
        endpoints.delete(endpoint);
      }
    },
  });
  const change = dispatcher && (await endpoint.moveHandlers(dispatcher, services));
  if (!change) return;
  parts.onAbandon(change.abandon);
  parts.onCommit(change.commit);
}

async function shareLimits(
  all: readonly Limits[],
  ledger: Ledger | undefined,
  { clock, logger }: ServerLife,
  parts: Parts,
): Promise<void> {
  const shared = all.filter(({ isShared }) => isShared);
  if (shared.length === 0 || !ledger) return;
  const one = await parts.keep('shared limits', '', {
    from: { shared, ledger },
    make: () => SharedLimits.open(shared, { ledger, clock, logger: logger.of('policy') }),
    close: before => before.close(),
    // Its successor counts what is told.
    retire: before => before.close(),
  });
  // Limits that run may be among them.
  parts.onCommit(() => one.hold());
}

/** It tells others of moves, and hears of theirs, through the ledger that it shares with them. */
async function startUpstream(
  upstream: Upstream,
  entries: readonly RouteEntry<Route>[],
  sessions: SessionContext | undefined,
  life: ServerLife,
  parts: Parts,
): Promise<void> {
  const ledger = ledgerOf(upstream, entries, sessions);
  await parts.keep('moves', upstream.name, {
    from: { upstream, ledger },
    async make() {
      const stop = ledger && (await shareMoves(upstream, ledger, life.logger));
      const observed = await upstream.observer?.open(ledger ?? life.ledger);
      // Its upstream may run, and look into those of before until then.
      if (observed) parts.onCommit(() => upstream.observer!.use(observed));
      upstream.start();
      return { stop, observed };
    },
    async close({ stop, observed }) {
      await stop?.();
      await observed?.close();
    },
    // The upstream closes it with the last that uses it, but for one that has others now.
    async retire({ stop, observed }, _successor, { over }) {
      await stop?.();
      if (upstream.observer?.sessions === observed) return;
      await over;
      // They are told to go (`holdToRules`), and end with their session until then.
      await observed?.emptied();
      await observed?.close();
    },
  });
}

/** What clients show a session by. */
function addNames(own: OwnNames, tracking: SessionManager['tracking']): void {
  for (const name of tracking.ownCookies) own.cookies.add(name);
  if (tracking.kinds.includes('header')) own.headers.add(tracking.headerName.toLowerCase());
  if (tracking.kinds.includes('url')) own.urlParameters.add(tracking.urlParameter);
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
