import { findConfig, loadConfig } from '../../config/load.ts';
import type { Command } from '../command.ts';
import { stopOnSignal } from '../stop-on-signal.ts';

export const serve: Command = {
  summary: 'Run the server of a configuration file. SIGTERM or Ctrl+C drains it.',
  options: {
    config: {
      type: 'string',
      short: 'c',
      placeholder: 'FILE',
      help: 'default: holdfast.config.ts, holdfast.yaml, holdfast.yml or holdfast.json of this folder',
    },
  },
  async run({ config }) {
    // Loaded here, so that the other commands do without it.
    const { createServer } = await import('../../server/server.ts');
    const server = createServer(await loadConfig(typeof config === 'string' ? config : findConfig(process.cwd())));
    await server.start();
    for (const url of server.urls) console.log(`listening on ${url}`);
    return stopOnSignal(server, '10s');
  },
};
