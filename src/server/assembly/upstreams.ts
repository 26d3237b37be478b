import type { Clock } from '../../base/clock.ts';
import { parseDuration } from '../../base/duration.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { UpstreamConfig, UpstreamTlsConfig } from '../../config/config.ts';
import { AssertionIssuer, type AssertionKeys } from '../../gateway/backend-session/assertion.ts';
import type { UpstreamTls } from '../../gateway/connection/dialer.ts';
import type { SessionContext } from '../../gateway/held-session.ts';
import type { OwnNames } from '../../gateway/own-names.ts';
import type { Route } from '../../gateway/route.ts';
import type { RouteEntry } from '../../gateway/routing/router.ts';
import { type Move, Upstream } from '../../gateway/upstream/upstream.ts';
import type { Ledger } from '../../session/ledger.ts';
import { readNamedFile } from './named-file.ts';

export interface UpstreamsOptions {
  /** The upstreams add their names. */
  readonly own: OwnNames;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Sign the cookies of affinity. Asked for only when an upstream needs them. */
  keys(): Promise<readonly (string | Uint8Array)[]>;
  /** Sign the assertions; undefined when no upstream gets any. */
  readonly assertionKeys: AssertionKeys | undefined;
  /** The claim `iss` of assertions. */
  readonly issuer: string;
}

/**
 * Makes the upstreams of a configuration, with the files that they name. Nothing is connected before `start`.
 *
 * @throws {HoldfastError} ERR_CONFIG_INVALID when a file cannot be read or used.
 */
export async function makeUpstreams(
  configs: Readonly<Record<string, UpstreamConfig>>,
  { own, clock, logger, keys, assertionKeys, issuer }: UpstreamsOptions,
): Promise<ReadonlyMap<string, Upstream>> {
  const upstreams = new Map<string, Upstream>();
  for (const [name, { tls, ...config }] of Object.entries(configs)) {
    const kind = typeof config.affinity === 'object' ? config.affinity.by : config.affinity;
    const { audience = name, lifetime = '60s' } = typeof config.assertion === 'object' ? config.assertion : {};
    const assertions =
      assertionKeys && config.assertion
        ? new AssertionIssuer(assertionKeys, { issuer, audience, lifetimeMs: parseDuration(lifetime) }, clock)
        : undefined;
    const environment = {
      own,
      logger,
      assertions,
      ...(tls && { tls: await readTls(name, tls) }),
      ...(kind === 'cookie' && { keys: await keys() }),
    };
    try {
      upstreams.set(name, new Upstream(name, config, clock, environment));
    } catch (error) {
      // Options are checked by now: it is a certificate that OpenSSL does not take, or a cookie name that a browser
      // would refuse.
      const message = `upstream ${JSON.stringify(name)}: ${(error as Error).message}; look at its tls files and affinity`;
      throw new HoldfastError('ERR_CONFIG_INVALID', message, { cause: error });
    }
  }
  return upstreams;
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
