import type { Clock } from '../../base/clock.ts';
import { defined } from '../../base/defined.ts';
import { parseDuration } from '../../base/duration.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { sameValue } from '../../base/same-value.ts';
import type { UpstreamConfig, UpstreamTlsConfig } from '../../config/config.ts';
import { AssertionIssuer, type AssertionKeys } from '../../gateway/backend-session/assertion.ts';
import { parseServerUrl, type UpstreamTls } from '../../gateway/connection/dialer.ts';
import type { SessionContext } from '../../gateway/held-session.ts';
import type { OwnNames } from '../../gateway/own-names.ts';
import type { Route } from '../../gateway/route.ts';
import type { RouteEntry } from '../../gateway/routing/router.ts';
import type { UpstreamServerConfig } from '../../gateway/upstream/options.ts';
import { type Move, Upstream } from '../../gateway/upstream/upstream.ts';
import type { Ledger } from '../../session/ledger.ts';
import type { CloseCodes } from '../../wire/close-codes.ts';
import { readNamedFile } from './named-file.ts';
import type { Parts } from './parts.ts';

export interface UpstreamsOptions {
  /** The upstreams add their names, when they are there to stay. */
  readonly own: OwnNames;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Sign the cookies of affinity. Asked for only when an upstream needs them. */
  keys(): Promise<readonly (string | Uint8Array)[]>;
  /** Sign the assertions; undefined when no upstream gets any. */
  readonly assertionKeys: AssertionKeys | undefined;
  /** The claim `iss` of assertions. */
  readonly issuer: string;
  readonly parts: Parts;
  /** They may change meanwhile. */
  readonly closeCodes: Readonly<CloseCodes>;
  /** Over which time the WebSockets of servers are closed that a reload takes away, in ms. */
  readonly spreadMs: number;
}

/**
 * Makes the upstreams of a configuration, with the files that they name. Those that are as they were go on as they are,
 * and those of which only servers have come or gone get these. Nothing is connected before `start`.
 *
 * @throws {HoldfastError} ERR_CONFIG_INVALID when a file cannot be read or used.
 */
export async function makeUpstreams(
  configs: Readonly<Record<string, UpstreamConfig>>,
  options: UpstreamsOptions,
): Promise<ReadonlyMap<string, Upstream>> {
  const upstreams = new Map<string, Upstream>();
  for (const [name, config] of Object.entries(configs)) upstreams.set(name, await keepUpstream(name, config, options));
  return upstreams;
}

async function keepUpstream(name: string, config: UpstreamConfig, options: UpstreamsOptions): Promise<Upstream> {
  const { own, clock, logger, keys, assertionKeys, issuer, parts, spreadMs, closeCodes } = options;
  const kind = typeof config.affinity === 'object' ? config.affinity.by : config.affinity;
  const from = {
    ...{ config, own, clock, logger },
    tls: config.tls && (await readTls(name, config.tls)),
    keys: kind === 'cookie' ? await keys() : undefined,
    ...(config.assertion && assertionKeys && { assertionKeys, issuer }),
  };
  const { tls: _, ...upstreamConfig } = config;
  const kept = await parts.keep('upstream', name, {
    from,
    make() {
      const { audience = name, lifetime = '60s' } = typeof config.assertion === 'object' ? config.assertion : {};
      const assertions =
        assertionKeys && config.assertion
          ? new AssertionIssuer(assertionKeys, { issuer, audience, lifetimeMs: parseDuration(lifetime) }, clock)
          : undefined;
      const environment = { own, logger, assertions, closeCodes, ...defined({ tls: from.tls, keys: from.keys }) };
      try {
        return new Upstream(name, upstreamConfig, clock, environment);
      } catch (error) {
        // Options are checked by now: it is a certificate that OpenSSL does not take, or a cookie name that a browser
        // would refuse.
        const message = `upstream ${JSON.stringify(name)}: ${(error as Error).message}; look at its tls files and affinity`;
        throw new HoldfastError('ERR_CONFIG_INVALID', message, { cause: error });
      }
    },
    adapt(upstream, before) {
      const { servers } = config;
      const isOfServers = sameValue({ ...before, config: { ...before.config, servers } }, from);
      return isOfServers ? changeServers(upstream, before.config.servers, servers, spreadMs) : undefined;
    },
    close: upstream => upstream.close(),
    retire: (upstream, successor, { judged }) => retireUpstream(upstream, successor, spreadMs, judged),
  });
  parts.onCommit(() => kept.addNames());
  return kept;
}

type Servers = UpstreamConfig['servers'];

/** Undefined where one that stays has another weight or route. */
function changeServers(upstream: Upstream, before: Servers, now: Servers, over: number): (() => void) | undefined {
  const [left, come] = [serversByUrl(before), serversByUrl(now)];
  for (const [url, server] of come) if (left.has(url) && !sameValue(left.get(url), server)) return undefined;
  return () => {
    // What was added or removed by hand is as the configuration says now.
    const running = new Set(upstream.servers.map(({ url }) => url));
    for (const [url, server] of come) if (!running.has(url)) upstream.add(server);
    for (const url of running)
      if (left.has(url) && !come.has(url))
        upstream.remove(url, { over }).catch(err => upstream.logger.error({ err, server: url }, 'server not removed'));
  };
}

function serversByUrl(servers: Servers): Map<string, UpstreamServerConfig> {
  const known = servers.map(server => (typeof server === 'string' ? { url: server } : server));
  return new Map(known.map(({ url, weight = 1, route }) => [serverUrl(url), { url, weight, ...defined({ route }) }]));
}

/** As servers of an upstream are known by. */
function serverUrl(url: string): string {
  return parseServerUrl('', url).url;
}

/** Its WebSockets stay where their server does, and its requests are finished. */
async function retireUpstream(
  upstream: Upstream,
  successor: Upstream | undefined,
  overMs: number,
  judged: Promise<unknown>,
): Promise<void> {
  const { clock } = upstream;
  const stays = new Set(successor?.servers.map(({ url }) => url));
  const end = clock.monotonic() + overMs;
  upstream.retire(url => !stays.has(url), overMs);
  // Requests that are being judged may go there until then.
  await judged;
  const over = Math.max(0, end - clock.monotonic());
  const drained = upstream.servers.map(({ url }) =>
    upstream.drain(url, stays.has(url) ? { sockets: 'stay' } : { sockets: 'close', over }),
  );
  await Promise.all(drained);
  await upstream.close();
}

/**
 * Where processes share what they know of an upstream: with the sessions of the routes that lead to it. The server's,
 * where some have these, or none have any. Undefined: each knows its own.
 */
export function ledgerOf(
  upstream: Upstream,
  entries: readonly RouteEntry<Route>[],
  server: SessionContext | undefined,
): Ledger | undefined {
  const leading = entries.filter(({ value: { target } }) => target.kind === 'upstream' && target.upstream === upstream);
  const contexts = leading.map(({ value }) => value.sessions);
  const context = contexts.includes(server) ? server : contexts.find(one => one?.ledger);
  return (context ?? server)?.ledger;
}

/**
 * Lets the processes that share a ledger agree on where clients have moved, so that each finds the state of its session
 * wherever it comes in. A move that is lost on the way is made again: every process chooses the same server.
 *
 * @returns stops it. The ledger may live longer than the server.
 */
export async function shareMoves(upstream: Upstream, ledger: Ledger, logger: Logger): Promise<() => Promise<void>> {
  const channel = `upstream ${upstream.name}`;
  const unsubscribe = await ledger.subscribe(channel, message => upstream.adoptMove(JSON.parse(message) as Move));
  upstream.announceMoves(move => {
    ledger.publish(channel, JSON.stringify(move)).catch((error: unknown) => {
      logger.warn({ err: error, upstream: upstream.name }, 'a move could not be told to other processes');
    });
  });
  return unsubscribe;
}

/** Its files, read. @throws {HoldfastError} ERR_CONFIG_INVALID when one cannot be. */
export async function readTls(upstream: string, config: UpstreamTlsConfig): Promise<UpstreamTls> {
  const read = async (what: 'ca' | 'certificate' | 'key') => {
    const path = config[what];
    return path === undefined ? undefined : await readNamedFile(path, `upstreams.${upstream}.tls.${what}`);
  };
  return { ...config, ca: await read('ca'), certificate: await read('certificate'), key: await read('key') };
}
