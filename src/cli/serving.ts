import type { Config } from '../config/config.ts';
import type { ReadConfig } from '../config/load.ts';
import type { ServerOperations } from '../server/administered.ts';
import type { Digests } from '../server/config-watch.ts';
import type { LogControl } from '../server/log/log-control.ts';
import type { ReloadReport } from '../server/take-over.ts';
import type { Stoppable } from './stop-on-signal.ts';

/** A server in this process, or a supervisor with workers. */
export interface RunningServer extends Stoppable {
  readonly urls: readonly string[];
  readonly internalUrl: string | undefined;
  readonly adminUrl: string | undefined;
  start(): Promise<void>;
  reload(read: () => Promise<Config>): Promise<ReloadReport>;
}

/** What the program runs. */
export interface Serving {
  readonly server: RunningServer;
  /** Files that other processes, or threads, have loaded for it, with what they held then, where that is known. */
  imports(): Digests;
  reopenLogs(): Promise<void>;
  /** Says better why a configuration is refused, where this process knows more. Never rejects. */
  explain(error: unknown, read: ReadConfig): Promise<unknown>;
}

export interface ServingOptions extends Required<ServerOperations> {
  readonly logs: LogControl;
}

/** Each is loaded where it is needed: who starts workers serves nobody. */
export async function servingOf(config: Config, options: ServingOptions): Promise<Serving> {
  const { logs, ...operations } = options;
  if ((config.workers ?? 1) === 1) {
    const { createServer, threadFilesOf } = await import('../server/server.ts');
    const { withPlaces } = await import('./examine.ts');
    const server = createServer(config, { logs, operations });
    return { server, imports: () => threadFilesOf(server), reopenLogs: () => logs.reopen(), explain: withPlaces };
  }
  const { Supervisor } = await import('../server/workers/supervisor.ts');
  const supervisor = new Supervisor(config, options);
  return {
    server: supervisor,
    imports: () => new Map(supervisor.imports.map(file => [file, undefined])),
    reopenLogs: () => supervisor.reopenLogs(),
    // The workers have said what they know: modules are loaded there, and not here.
    explain: async error => error,
  };
}
