import { readFile } from 'node:fs/promises';
import type { Clock } from '../base/clock.ts';
import { parseDuration } from '../base/duration.ts';
import { HoldfastError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { UpstreamConfig, UpstreamTlsConfig } from '../config/config.ts';
import { AssertionIssuer, type AssertionKeys } from '../gateway/assertion.ts';
import type { UpstreamTls } from '../gateway/pool.ts';
import { type Move, Upstream } from '../gateway/upstream.ts';
import type { Ledger } from '../session/ledger.ts';

export interface UpstreamParts {
  readonly clock: Clock;
  readonly logger: Logger;
  /** What processes share about observed sessions. Undefined: each knows its own. */
  readonly ledger?: Ledger | undefined;
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
  { clock, logger, ledger, keys, assertionKeys, issuer }: UpstreamParts,
): Promise<ReadonlyMap<string, Upstream>> {
  const upstreams = new Map<string, Upstream>();
  for (const [name, { tls, ...config }] of Object.entries(configs)) {
    const kind = typeof config.affinity === 'object' ? config.affinity.by : config.affinity;
    const options = { ...config, ...(tls && { tls: await readTls(name, tls) }) };
    const { audience = name, lifetime = '60s' } = typeof config.assertion === 'object' ? config.assertion : {};
    const assertions =
      assertionKeys && config.assertion
        ? new AssertionIssuer(assertionKeys, { issuer, audience, lifetimeMs: parseDuration(lifetime) }, clock)
        : undefined;
    const environment = { logger, ledger, assertions, ...(kind === 'cookie' && { keys: await keys() }) };
    try {
      upstreams.set(name, new Upstream(name, options, clock, environment));
    } catch (error) {
      // Options are checked by now: it is a certificate that OpenSSL does not take, or a cookie name that a browser would refuse.
      const message = `upstream ${JSON.stringify(name)}: ${(error as Error).message}; look at its tls files and affinity`;
      throw new HoldfastError('ERR_CONFIG_INVALID', message, { cause: error });
    }
  }
  return upstreams;
}

/** The channel of the ledger on which processes tell each other where clients have moved. */
const CHANNEL = 'upstream';

/**
 * Lets the processes that share a ledger agree on where clients have moved, so that each finds the state of its session wherever it
 * comes in. A move that is lost on the way is made again: every process chooses the same server.
 */
export async function shareMoves(
  upstreams: ReadonlyMap<string, Upstream>,
  ledger: Ledger,
  logger: Logger,
): Promise<void> {
  if (upstreams.size === 0) return;
  await ledger.subscribe(CHANNEL, message => {
    const move = JSON.parse(message) as Move;
    upstreams.get(move.upstream)?.adoptMove(move);
  });
  const announce = (move: Move) => {
    ledger.publish(CHANNEL, JSON.stringify(move)).catch((error: unknown) => {
      logger.warn({ err: error, upstream: move.upstream }, 'a move could not be told to other processes');
    });
  };
  for (const upstream of upstreams.values()) upstream.announceMoves(announce);
}

async function readTls(upstream: string, config: UpstreamTlsConfig): Promise<UpstreamTls> {
  const { ca, certificate, key, ...rest } = config;
  const read = async (what: string, path: string) => {
    try {
      return await readFile(path);
    } catch (error) {
      const message = `upstreams.${upstream}.tls.${what}: cannot read ${path}; create it or fix the path`;
      throw new HoldfastError('ERR_CONFIG_INVALID', message, { cause: error });
    }
  };
  return {
    ...rest,
    ...(ca !== undefined && { ca: await read('ca', ca) }),
    ...(certificate !== undefined && { certificate: await read('certificate', certificate) }),
    ...(key !== undefined && { key: await read('key', key) }),
  };
}
