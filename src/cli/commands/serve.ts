import { systemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/message-of.ts';
import { ConfigError } from '../../config/config-error.ts';
import { type ReadConfig, readConfig } from '../../config/load.ts';
import { modules } from '../../config/modules.ts';
import { ConfigWatch } from '../../server/config-watch.ts';
import { inheritedSockets } from '../../server/listen/inherited.ts';
import { standardOutput } from '../../server/log/standard-output.ts';
import type { Server } from '../../server/server.ts';
import type { Command } from '../command.ts';
import { configFile, configOption } from '../config-option.ts';
import { holdInspector, reopenOnSignal } from '../log-signals.ts';
import { Reloader, sayDoubts } from '../reloader.ts';
import { SAID_AT_START } from '../said-doubts.ts';
import { ServiceManager } from '../service-manager/service-manager.ts';
import { drainOnRequest, type Stoppable, StopSignals, stopOnSignal } from '../stop-on-signal.ts';

export const serve: Command = {
  summary: 'Run the server of a configuration file. SIGHUP or a changed file reloads it; SIGTERM or Ctrl+C drains it.',
  options: {
    config: configOption,
    'no-watch': { type: 'boolean', help: 'reload on SIGHUP and by `holdfast reload` only, not when a file changes' },
  },
  async run({ config, 'no-watch': noWatch }) {
    const isWatching = noWatch !== true;
    holdInspector();
    // Loaded here, so that the other commands do without them.
    const { createServer } = await import('../../server/server.ts');
    const { examine } = await import('../examine.ts');
    const { LogControl } = await import('../../server/log/log-control.ts');
    // What the program of a configuration prints itself goes the way of Node, which ends the process when
    // the reader has gone.
    for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
    const file = configFile(config);
    // Before the first module of the application is loaded.
    modules.watch();
    const read = await readConfig(file);
    const { errors, warnings } = await examine(read);
    if (errors.length > 0) throw new ConfigError(errors);
    const logs = LogControl.open(read.config.log, { without: SAID_AT_START });
    const logger = logs.logger.of('cli');
    reopenOnSignal(logs, logger);
    sayDoubts(warnings, logs);
    const manager = new ServiceManager(process.env, { clock: systemClock, logger });
    const signals = new StopSignals();
    const server: Server = createServer(read.config, {
      logs,
      operations: {
        configFile: file,
        drain: ({ over }) => drainOnRequest(server, signals, { by: 'holdfast drain', drain: over }),
        reload: () => reloader.reload('holdfast reload'),
        lastReload: () => reloader.last,
      },
    });
    const watch = new ConfigWatch({ clock: systemClock, onChange: () => void reloader.reload('a file has changed') });
    const onRead = (now: ReadConfig) => void (isWatching && watch.settle(now));
    const reloader = new Reloader({ file, server, logs, manager, onRead });
    // It comes when the terminal closes, too.
    process.on('SIGHUP', () => void reloader.reload('SIGHUP'));
    await start(server, manager);
    signals.listen();
    const { urls, internalUrl, adminUrl } = server;
    logger.info({ event: 'started', urls, internalUrl, adminUrl }, 'started');
    // Programs read lines of a log there, when one goes to it.
    if (!logs.writesTo('stdout')) printUrls(server);
    for (const { name, fd } of inheritedSockets().untaken)
      logs.uncounted.warn(
        { event: 'socket-unused', name, fd, part: 'cli' },
        `nobody is served on a socket that was handed over; name it under "listen": { activation: ${JSON.stringify(name)} }`,
      );
    manager.ready(`listening on ${urls.join(', ')}`);
    onRead(read);
    const code = await stopOnSignal(reportingStop(server, manager), signals, logger);
    watch.close();
    return code;
  },
};

function printUrls({ urls, internalUrl, adminUrl }: Server): void {
  const out = standardOutput();
  for (const url of urls) out.write(`listening on ${url}\n`);
  if (internalUrl !== undefined) out.write(`listening for backends on ${internalUrl}\n`);
  if (adminUrl !== undefined) out.write(`listening for administrators on ${adminUrl}\n`);
}

/** `systemctl status` then says why it does not run. */
async function start(server: Server, manager: ServiceManager): Promise<void> {
  try {
    await server.start();
  } catch (error) {
    manager.status(messageOf(error));
    await manager.close();
    throw error;
  }
}

function reportingStop(server: Server, manager: ServiceManager): Stoppable {
  return {
    get drain() {
      return server.drainSettings;
    },
    async stop(options) {
      const { delayMs, timeoutMs } = server.drainSettings;
      manager.stopping(delayMs + timeoutMs);
      await server.stop(options);
      await manager.close();
    },
  };
}
