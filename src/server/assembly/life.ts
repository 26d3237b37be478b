import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { CalmLogger } from '../../base/calm-logger.ts';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { SecurityEventName } from '../../base/security-events.ts';
import type { Config } from '../../config/config.ts';
import { AuthRenewals } from '../../gateway/auth-renewals.ts';
import { LiveCertificates } from '../../gateway/live-certificates.ts';
import type { LiveSockets } from '../../gateway/live-sockets.ts';
import { LiveUsers } from '../../gateway/live-users.ts';
import { OwnNames } from '../../gateway/own-names.ts';
import type { Route } from '../../gateway/route.ts';
import { newInstanceName } from '../../gateway/routing/loop.ts';
import type { Ended } from '../../gateway/upgrade.ts';
import { ReplaceableAddressList } from '../../http/address-list.ts';
import type { RequestHead } from '../../http/request-head.ts';
import { SecurityEvents } from '../../policy/security-events.ts';
import type { Ledger } from '../../session/ledger.ts';
import { MemoryLedger } from '../../session/ledgers/memory.ts';
import type { ServedEndpoint } from '../../websocket/endpoint.ts';
import type { ConnectionServices } from '../../websocket/endpoint-connection.ts';
import { TimerWheel } from '../../websocket/timer-wheel.ts';
import { Topics } from '../../websocket/topics.ts';
import { type CloseCodes, USUAL_CLOSE_CODES } from '../../wire/close-codes.ts';
import { LineAllowance } from '../log/line-allowance.ts';
import type { LineSink } from '../log/line-output.ts';
import { LogControl } from '../log/log-control.ts';
import type { ServerMeters } from '../metrics/meters.ts';

/** A request that was admitted and is being answered. */
export interface RunningAnswer {
  readonly route: Route;
  readonly head: RequestHead;
}

/** What a server has as long as it lives, whatever its configuration says by then. */
export interface ServerLife {
  readonly clock: Clock;
  readonly logs: LogControl;
  /** Of the part `gateway`. */
  readonly logger: CalmLogger;
  readonly security: SecurityEvents;
  readonly own: OwnNames;
  /** Undefined: nobody asks for metrics. */
  readonly meters: ServerMeters | undefined;
  readonly trustedProxies: ReplaceableAddressList;
  readonly users: LiveUsers;
  readonly renewals: AuthRenewals;
  readonly certificates: LiveCertificates;
  readonly services: ConnectionServices;
  /** As the configuration says by now. */
  readonly closeCodes: CloseCodes;
  /** Where there are no sessions. */
  readonly ledger: Ledger;
  readonly sockets: LiveSockets;
  /** Those that are served, and those that are not any more and have connections still. */
  readonly endpoints: Set<ServedEndpoint<unknown>>;
  /** Sockets that asked for an upgrade and have no answer yet, with what writes their line in the access log. */
  readonly handshakes: Map<Duplex, { end(ended: Ended): void }>;
  /** Whose handshakes were answered without a WebSocket: they are read until their clients have that answer. */
  readonly lingering: Set<Duplex>;
  /** Requests that have their line in the access log when their connection says that it is closed. */
  readonly unlogged: Set<object>;
  /** Of lines in the access log about what is not a request. */
  readonly unreadLines: LineAllowance;
  /** Answers under way. */
  readonly answers: Map<ServerResponse, RunningAnswer>;
}

export interface LifeEnvironment {
  readonly clock: Clock;
  readonly logger?: Logger | undefined;
  /** Logs that are open already. Default: those of the configuration. */
  readonly logs?: LogControl | undefined;
  readonly accessLog?: LineSink | undefined;
  readonly meters?: ServerMeters | undefined;
}

/** @throws {HoldfastError} ERR_CONFIG_INVALID when a file of the log cannot be written. */
export function beginLife(config: Config, environment: LifeEnvironment): ServerLife {
  const { clock, meters, logger: ownLogger, accessLog } = environment;
  const logs = environment.logs ?? LogControl.open(config.log, { clock, logger: ownLogger, accessLog });
  if (meters) logs.meters = meters;
  const logger = logs.logger.of('gateway');
  const own = new OwnNames(newInstanceName());
  logs.hide(own);
  const security = new SecurityEvents(logger.of('policy'));
  if (meters) security.listen(({ event }) => meters.securityEvents.add(event as SecurityEventName));
  const trustedProxies = new ReplaceableAddressList();
  const users = new LiveUsers({ clock, logger, security });
  return {
    ...{ clock, logs, logger, security, own, users, meters },
    trustedProxies,
    renewals: new AuthRenewals(users, { clock, logger }),
    certificates: new LiveCertificates(),
    services: { wheel: new TimerWheel(clock), topics: new Topics(), logger: logger.of('websocket') },
    closeCodes: { ...USUAL_CLOSE_CODES },
    ledger: new MemoryLedger({ clock }),
    sockets: new Set(),
    endpoints: new Set(),
    handshakes: new Map(),
    lingering: new Set(),
    unlogged: new Set(),
    unreadLines: new LineAllowance({ clock, logger: logs.logger.of('server'), trustedProxies }),
    answers: new Map(),
  };
}

/** After everything that it was there for. @param ownsLogs Are its logs nobody else's? */
export async function endLife(life: ServerLife, ownsLogs: boolean): Promise<void> {
  const { users, renewals, unreadLines, logger, logs } = life;
  unreadLines.close();
  users.close();
  renewals.close();
  logger.flush();
  if (ownsLogs) await logs.close();
}
