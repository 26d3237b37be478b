import { systemClock } from '../../base/clock.ts';
import { type Duration, parseDuration } from '../../base/duration.ts';
import { messageOf } from '../../base/message-of.ts';
import { ConfigError, type ConfigProblem, formatProblem } from '../../config/config-error.ts';
import { readConfig } from '../../config/load.ts';
import { inheritedSockets } from '../../server/listen/inherited.ts';
import { standardOutput } from '../../server/log/standard-output.ts';
import type { Server } from '../../server/server.ts';
import type { Command } from '../command.ts';
import { configFile, configOption } from '../config-option.ts';
import { holdInspector, reopenOnSignal } from '../log-signals.ts';
import { isSaidByServer, SAID_AT_START } from '../said-doubts.ts';
import { ServiceManager } from '../service-manager/service-manager.ts';
import { outliveHangup, stopOnSignal } from '../stop-on-signal.ts';

export const serve: Command = {
  summary: 'Run the server of a configuration file. SIGTERM or Ctrl+C drains it.',
  options: { config: configOption },
  async run({ config }) {
    holdInspector();
    // Loaded here, so that the other commands do without them.
    const { createServer } = await import('../../server/server.ts');
    const { examine } = await import('../examine.ts');
    const { LogControl } = await import('../../server/log/log-control.ts');
    // What the program of a configuration prints itself goes the way of Node, which ends the process when
    // the reader has gone.
    for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
    const file = configFile(config);
    const read = await readConfig(file);
    const { errors, warnings } = await examine(read);
    if (errors.length > 0) throw new ConfigError(errors);
    const logs = LogControl.open(read.config.log, { without: SAID_AT_START });
    const logger = logs.logger.of('cli');
    outliveHangup(logger);
    reopenOnSignal(logs, logger);
    for (const warning of warnings.filter(one => !isSaidByServer(one)))
      logs.uncounted.warn({ event: 'config-doubtful', ...placeOf(warning), part: 'cli' }, formatProblem(warning));
    const manager = new ServiceManager(process.env, { clock: systemClock, logger });
    // Whoever asks for it by the admin API is as good as whoever sends the signal.
    let drainTime: Duration = '10s';
    const drain = ({ over = drainTime }: { over?: Duration | undefined }) => {
      drainTime = over;
      process.kill(process.pid, 'SIGTERM');
    };
    const server = createServer(read.config, { logs, operations: { configFile: file, drain } });
    await start(server, manager);
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
    return stopOnSignal(reportingStop(server, manager), () => drainTime, logger);
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

function reportingStop(server: Server, manager: ServiceManager) {
  return {
    async stop(options: { drain?: Duration }): Promise<void> {
      manager.stopping(parseDuration(options.drain ?? '10s'));
      await server.stop(options);
      await manager.close();
    },
  };
}

function placeOf({ code, path, file, line, column }: ConfigProblem) {
  return { code, path, file, line, column };
}
