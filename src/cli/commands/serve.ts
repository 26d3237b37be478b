import { flushCompileCache } from 'node:module';
import { systemClock } from '../../base/clock.ts';
import { type Duration, parseDuration } from '../../base/duration.ts';
import { messageOf } from '../../base/message-of.ts';
import { ConfigError } from '../../config/config-error.ts';
import { type ReadConfig, readConfig } from '../../config/load.ts';
import { modules } from '../../config/modules.ts';
import { ConfigWatch } from '../../server/config-watch.ts';
import { inheritedSockets } from '../../server/listen/inherited.ts';
import { standardError, standardOutput } from '../../server/log/standard-output.ts';
import { workerNumber } from '../../server/workers/worker-variable.ts';
import type { Command, ExitCode } from '../command.ts';
import { configFile, configOption } from '../config-option.ts';
import { holdInspector, reopenOnSignal } from '../log-signals.ts';
import { NodeMessages } from '../node-messages.ts';
import { listening, Reloader, sayDoubts } from '../reloader.ts';
import { SAID_AT_START } from '../said-doubts.ts';
import { ServiceManager } from '../service-manager/service-manager.ts';
import { type RunningServer, type Serving, servingOf } from '../serving.ts';
import { drainOnRequest, type Stoppable, StopSignals, stopOnSignal } from '../stop-on-signal.ts';
import { UnusedSockets } from '../unused-sockets.ts';

export const serve: Command = {
  summary: 'Run the server of a configuration file. SIGHUP or a changed file reloads it; SIGTERM or Ctrl+C drains it.',
  options: {
    config: configOption,
    'no-watch': { type: 'boolean', help: 'reload on SIGHUP and by `holdfast reload` only, not when a file changes' },
  },
  async run({ config, 'no-watch': noWatch }) {
    const number = workerNumber(process.env);
    // Loaded here: one process in all does without it, and so does the supervisor.
    if (number !== undefined) return (await import('../worker.ts')).serveAsWorker(configFile(config));
    holdInspector();
    const messages = new NodeMessages();
    // Both take their variables out of the environment, before the application is loaded and starts programs of its own.
    const manager = new ServiceManager(process.env, { clock: systemClock });
    inheritedSockets();
    try {
      return await serveFile(configFile(config), manager, messages, noWatch !== true);
    } catch (error) {
      // `systemctl status` then says why it does not run.
      manager.status(messageOf(error));
      standardError().write(messages.takeText());
      await manager.close();
      throw error;
    }
  },
};

/** What a start has compiled is kept for the next one when this one is done. */
const COMPILED_AFTER_MS = 1_000;

async function serveFile(
  file: string,
  manager: ServiceManager,
  messages: NodeMessages,
  isWatching: boolean,
): Promise<ExitCode> {
  // Loaded here, so that the other commands do without them.
  const { examine } = await import('../examine.ts');
  const { LogControl } = await import('../../server/log/log-control.ts');
  // What the program of a configuration prints itself goes the way of Node, which ends the process when
  // the reader has gone.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  // Before the first module of the application is loaded.
  modules.watch();
  const read = await readConfig(file);
  const { errors, warnings } = await examine(read);
  if (errors.length > 0) throw new ConfigError(errors);
  const logs = LogControl.open(read.config.log, { without: SAID_AT_START });
  const logger = logs.logger.of('cli');
  let serving: Serving | undefined;
  reopenOnSignal({ reopen: () => serving?.reopenLogs() ?? logs.reopen() }, logger);
  messages.logTo(logger);
  sayDoubts(warnings, logs);
  manager.logTo(logger);
  const signals = new StopSignals();
  serving = await servingOf(read.config, {
    logs,
    configFile: file,
    drain: ({ over }) => drainOnRequest(serving!.server, signals, { by: 'holdfast drain', drain: over }),
    reload: () => reloader.reload('holdfast reload'),
    lastReload: () => reloader.last,
  });
  const { server, imports, explain } = serving;
  let isStopping = false;
  const watch = new ConfigWatch({
    clock: systemClock,
    onChange: () => void reloader.reload('a file has changed'),
    others: imports,
  });
  const unused = new UnusedSockets(logs);
  const onRead = (now: ReadConfig) => {
    unused.say();
    if (isWatching && !isStopping) void watch.settle(now);
  };
  const reloader = new Reloader({ file, server, explain, logs, manager, onRead });
  // It comes when the terminal closes, too.
  process.on('SIGHUP', () => void reloader.reload('SIGHUP'));
  try {
    await server.start();
  } catch (error) {
    throw await explain(error, read);
  }
  signals.listen();
  const { urls, internalUrl, adminUrl } = server;
  logger.info({ event: 'started', urls, internalUrl, adminUrl }, 'started');
  // Programs read lines of a log there, when one goes to it.
  if (!logs.writesTo('stdout')) printUrls(server);
  manager.ready(listening(server));
  // The end of the process, when Node would do it, may be a signal that it does not hear.
  setTimeout(flushCompileCache, COMPILED_AFTER_MS).unref();
  onRead(read);
  const onStop = () => {
    isStopping = true;
    watch.close();
  };
  return await stopOnSignal(reportingStop(server, manager, onStop), signals, logger);
}

function printUrls({ urls, internalUrl, adminUrl }: RunningServer): void {
  const out = standardOutput();
  for (const url of urls) out.write(`listening on ${url}\n`);
  if (internalUrl !== undefined) out.write(`listening for backends on ${internalUrl}\n`);
  if (adminUrl !== undefined) out.write(`listening for administrators on ${adminUrl}\n`);
}

function reportingStop(server: RunningServer, manager: ServiceManager, onStop: () => void): Stoppable {
  let isStopping = false;
  return {
    get drainSettings() {
      return server.drainSettings;
    },
    async stop(options) {
      onStop();
      manager.stopping(longestStop(server, options.drain, isStopping));
      isStopping = true;
      await server.stop(options);
      await manager.close();
    },
  };
}

/** In ms. A second stop is for hurry: what is left of the delay is left out. */
function longestStop({ drainSettings }: RunningServer, drain: Duration | undefined, isStopping: boolean): number {
  const { delayMs, timeoutMs } = drainSettings;
  const limitMs = drain === undefined ? timeoutMs : parseDuration(drain);
  return isStopping || limitMs === 0 ? limitMs : delayMs + limitMs;
}
