import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, isHoldfastError } from '../base/errors.ts';
import { sortWarnings } from '../config/accepted.ts';
import { checkConfig } from '../config/check.ts';
import { checkFiles } from '../config/check-files.ts';
import { checkRevocationLists } from '../config/check-revocation-lists.ts';
import { byPlace, ConfigError, type ConfigProblem } from '../config/config-error.ts';
import type { ReadConfig } from '../config/load.ts';
import { toProblems } from '../config/to-problems.ts';
import type { WarningCode } from '../config/warning-codes.ts';
import { checkAdmin } from '../server/admin/check-admin.ts';
import { checkAllOrNone } from '../server/assembly/all-or-none.ts';
import { checkConstraints } from '../server/assembly/check-constraints.ts';
import { checkDataFolder } from '../server/assembly/check-data-folder.ts';
import { checkKeyFiles } from '../server/assembly/check-key-files.ts';
import { checkPasswordFiles } from '../server/assembly/check-password-files.ts';
import { checkSchemeFiles } from '../server/assembly/check-scheme-files.ts';
import { checkSecrets } from '../server/assembly/check-secrets.ts';
import { checkSessionStores } from '../server/assembly/check-session-stores.ts';
import { checkStricterRoutes } from '../server/assembly/stricter-routes.ts';
import { checkCertificates } from '../server/listen/check-certificates.ts';
import { checkListeners } from '../server/listen/check-listeners.ts';
import { checkSocketFiles } from '../server/listen/check-socket-files.ts';

/** What is to be said of a configuration, in the order of its file. */
export interface Findings {
  /** Each would make a start fail. */
  readonly errors: readonly ConfigProblem[];
  /** What is legal but will not do what was meant. */
  readonly warnings: readonly ConfigProblem[];
  /** Warnings that the configuration accepts. */
  readonly accepted: readonly ConfigProblem[];
}

export interface Examination {
  /** Load the modules of endpoints and handlers, as a start does. Default false. */
  readonly handlers?: boolean;
  /** Dial what the configuration names. Default false. */
  readonly probe?: boolean;
  /** May this user listen on a port? Default: what the operating system says. For tests. */
  readonly mayListen?: (port: number) => Promise<boolean>;
}

/**
 * Looks at a configuration that was read, and at the files that it names, as a start does. Without `handlers` and
 * `probe` nothing is opened, and no handler is loaded.
 */
export async function examine(
  { config, locate, hide }: ReadConfig,
  { handlers = false, probe = false, mayListen }: Examination = {},
): Promise<Findings> {
  const now = Date.now();
  const passwords = await checkPasswordFiles(config);
  const lists = await checkRevocationLists(config, now);
  const certificates = await checkCertificates(config, now);
  const read = [...(await checkSchemeFiles(config)), ...(await checkKeyFiles(config)), ...(await checkSecrets(config))];
  const written = [
    ...(await checkDataFolder(config)),
    ...(await checkSessionStores(config)),
    ...(await checkAdmin(config)),
    ...(await checkSocketFiles(config)),
  ];
  const loaded = handlers ? await ofHandlers(config) : [];
  const faults = [...read, ...written, ...certificates.faults, ...passwords.faults, ...lists.errors, ...loaded];
  const ofRoutes = [...checkStricterRoutes(config), ...checkConstraints(config), ...checkAllOrNone(config)];
  const ofMachine = await checkListeners(config, mayListen);
  const ofFiles = [...certificates.warnings, ...passwords.warnings, ...lists.warnings];
  const doubts = [...ofRoutes, ...ofFiles, ...ofMachine, ...(probe ? await ofProbes(config) : [])];
  const found = [...checkConfig(config, locate), ...toProblems(doubts, locate)];
  const { warnings, accepted } = sortWarnings(
    found,
    config,
    locate,
    code => !OF_MACHINE.has(code) && (probe || !code.endsWith('-probe')),
  );
  const inOrder = (problems: readonly ConfigProblem[]) => problems.map(hide).sort(byPlace);
  return {
    errors: inOrder([...(await checkFiles(config, locate)), ...toProblems(faults, locate)]),
    warnings: inOrder(warnings),
    accepted: inOrder(accepted),
  };
}

/** For what is told better then, and is not to be told too late: the modules may take long to say what they have said. */
const PLACES_MS = 1_000;

/**
 * Why a configuration that `examine` finds nothing wrong with cannot be used all the same, as `check` says it: what its
 * modules declare is looked at there, with the place that it has in the file. Only for a process that has loaded these
 * modules itself: they are loaded here. Never rejects: the error stays as it is where nothing is found within a second.
 */
export async function withPlaces(error: unknown, read: ReadConfig): Promise<unknown> {
  if (!isHoldfastError(error) || !OF_THE_CONFIGURATION.has(error.code)) return error;
  if (error instanceof ConfigError && error.problems.every(({ file }) => file !== undefined)) return error;
  const errors = await Promise.race([
    examine(read, { handlers: true }).then(found => found.errors),
    sleep(PLACES_MS, [], { ref: false }),
  ]).catch(() => []);
  return errors.length > 0 ? new ConfigError(errors) : error;
}

const OF_THE_CONFIGURATION: ReadonlySet<ErrorCode> = new Set([
  'ERR_CONFIG_INVALID',
  'ERR_ROUTE_DUPLICATE',
  'ERR_ROUTE_AMBIGUOUS',
]);

/** They come and go with the machine and its user: an entry of `accept` for them is never idle. */
const OF_MACHINE: ReadonlySet<WarningCode> = new Set(['privileged-port', 'address-not-here', 'group-not-here']);

/** Loaded here, so that a start does without it. */
async function ofHandlers(config: ReadConfig['config']) {
  const { checkHandlers } = await import('../server/assembly/check-handlers.ts');
  return checkHandlers(config);
}

async function ofProbes(config: ReadConfig['config']) {
  const { probeIssuers } = await import('../server/assembly/probe-issuers.ts');
  const { probeSessionStores } = await import('../server/assembly/probe-session-stores.ts');
  const { probeUpstreams } = await import('../server/assembly/probe-upstreams.ts');
  const probes = [probeUpstreams(config), probeSessionStores(config), probeIssuers(config)];
  return (await Promise.all(probes)).flat();
}
