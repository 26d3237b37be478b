import { loadConfig } from '../../config/load.ts';
import type { Command } from '../command.ts';
import { configFile, configOption } from '../config-option.ts';
import { stopOnSignal } from '../stop-on-signal.ts';

export const serve: Command = {
  summary: 'Run the server of a configuration file. SIGTERM or Ctrl+C drains it.',
  options: {
    config: configOption,
  },
  async run({ config }) {
    // Loaded here, so that the other commands do without it.
    const { createServer } = await import('../../server/server.ts');
    const server = createServer(await loadConfig(configFile(config)));
    await server.start();
    for (const url of server.urls) console.log(`listening on ${url}`);
    if (server.internalUrl !== undefined) console.log(`listening for backends on ${server.internalUrl}`);
    return stopOnSignal(server, '10s');
  },
};
