import { ConfigError, type ConfigProblem, formatProblem } from '../../config/config-error.ts';
import { readConfig } from '../../config/load.ts';
import { standardOutput } from '../../server/standard-output.ts';
import type { Command } from '../command.ts';
import { configFile, configOption } from '../config-option.ts';
import { outliveHangup, stopOnSignal } from '../stop-on-signal.ts';

export const serve: Command = {
  summary: 'Run the server of a configuration file. SIGTERM or Ctrl+C drains it.',
  options: { config: configOption },
  async run({ config }) {
    outliveHangup();
    // Loaded here, so that the other commands do without them.
    const { createServer } = await import('../../server/server.ts');
    const { examine } = await import('../examine.ts');
    const { createLogger } = await import('../../server/logging.ts');
    // What the program of a configuration prints itself goes the way of Node, which ends the process when
    // the reader has gone.
    for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
    const read = await readConfig(configFile(config));
    const { errors, warnings } = await examine(read);
    if (errors.length > 0) throw new ConfigError(errors);
    const logger = createLogger(read.config.log);
    for (const warning of warnings)
      logger.warn({ event: 'config-doubtful', ...placeOf(warning) }, formatProblem(warning));
    const server = createServer(read.config);
    await server.start();
    const out = standardOutput();
    for (const url of server.urls) out.write(`listening on ${url}\n`);
    if (server.internalUrl !== undefined) out.write(`listening for backends on ${server.internalUrl}\n`);
    return stopOnSignal(server, '10s');
  },
};

function placeOf({ code, path, file, line, column }: ConfigProblem) {
  return { code, path, file, line, column };
}
