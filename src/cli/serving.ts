import type { Config } from '../config/config.ts';
import type { ServerOperations } from '../server/administered.ts';
import type { LogControl } from '../server/log/log-control.ts';
import type { ReloadReport } from '../server/take-over.ts';
import type { Stoppable } from './stop-on-signal.ts';

/** What the program runs: a server in this process, or a supervisor with workers. */
export interface Serving extends Stoppable {
  readonly urls: readonly string[];
  readonly internalUrl: string | undefined;
  readonly adminUrl: string | undefined;
  /** Files that other processes have loaded for it. */
  readonly imports: readonly string[];
  start(): Promise<void>;
  reload(read: () => Promise<Config>): Promise<ReloadReport>;
  reopenLogs(): Promise<void>;
}

export interface ServingOptions extends Required<ServerOperations> {
  readonly logs: LogControl;
}

/** Each is loaded where it is needed: who starts workers serves nobody. */
export function servingOf(config: Config, options: ServingOptions): Promise<Serving> {
  return (config.workers ?? 1) === 1 ? alone(config, options) : supervised(config, options);
}

async function alone(config: Config, { logs, ...operations }: ServingOptions): Promise<Serving> {
  const { createServer } = await import('../server/server.ts');
  const server = createServer(config, { logs, operations });
  return {
    get urls() {
      return server.urls;
    },
    get internalUrl() {
      return server.internalUrl;
    },
    get adminUrl() {
      return server.adminUrl;
    },
    get drain() {
      return server.drainSettings;
    },
    imports: [],
    start: () => server.start(),
    stop: options => server.stop(options),
    reload: read => server.reload(read),
    reopenLogs: () => logs.reopen(),
  };
}

async function supervised(config: Config, options: ServingOptions): Promise<Serving> {
  const { Supervisor } = await import('../server/workers/supervisor.ts');
  const supervisor = new Supervisor(config, options);
  return {
    get urls() {
      return supervisor.urls;
    },
    get internalUrl() {
      return supervisor.internalUrl;
    },
    get adminUrl() {
      return supervisor.adminUrl;
    },
    get drain() {
      return supervisor.drainSettings;
    },
    get imports() {
      return supervisor.imports;
    },
    start: () => supervisor.start(),
    stop: stopOptions => supervisor.stop(stopOptions),
    reload: read => supervisor.reload(read),
    reopenLogs: () => supervisor.reopenLogs(),
  };
}
