import { relative, resolve } from 'node:path';
import { isHoldfastError } from '../../base/errors.ts';
import { standardError, standardOutput } from '../../server/log/standard-output.ts';
import type { StopOptions } from '../../server/server.ts';
import { type Command, type ExitCode, UsageError } from '../command.ts';
import type { DemoOptions } from '../demo/application.ts';
import type { BackendProcess } from '../demo/backend-process.ts';
import { StopSignals, stopOnSignal } from '../stop-on-signal.ts';

const DEFAULT_PORT = '8080';
const DEFAULT_DATA = '.holdfast/demo';

export const demo: Command = {
  summary: 'Show it in a browser: sign in, chat in two tabs, cut the connection, restart the server.',
  options: {
    port: { type: 'string', short: 'p', placeholder: 'PORT', help: `default: ${DEFAULT_PORT}; 0 picks a free one` },
    tls: { type: 'boolean', help: 'https and HTTP/2, with a self-signed certificate that your browser will ask about' },
    data: { type: 'string', placeholder: 'FOLDER', help: `where the sessions are kept; default: ${DEFAULT_DATA}` },
  },
  async run({ port = DEFAULT_PORT, tls = false, data = DEFAULT_DATA }) {
    const portNumber = readPort(String(port));
    const dataFolder = resolve(String(data));
    // Loaded here, so that the other commands do without it.
    const { BackendProcess } = await import('../demo/backend-process.ts');
    const backend = new BackendProcess(print);
    await backend.start();
    try {
      return await runDemo({ port: portNumber, isTls: tls === true, dataFolder, backend });
    } finally {
      backend.stop();
    }
  },
};

async function runDemo(options: DemoOptions & { backend: BackendProcess }): Promise<ExitCode> {
  const { createDemo } = await import('../demo/application.ts');
  const server = createDemo(options);
  try {
    await server.start();
  } catch (error) {
    if (!isHoldfastError(error) || error.code !== 'ERR_SERVER_LISTEN') throw error;
    standardError().write(
      `holdfast: ${error.message}\nIs another demo running? Choose another port with --port (npm start -- --port 8081).\n`,
    );
    return 1;
  }
  const { protocol, port } = new URL(server.urls[0]!);
  print(welcome(`${protocol}//localhost:${port}`, options.dataFolder, options.backend.pid!));
  const stoppable = {
    drainSettings: { delayMs: 0, timeoutMs: 1_000 },
    stop: (stop: StopOptions) => server.stop({ drain: '1s', ...stop }),
  };
  const signals = new StopSignals();
  signals.listen();
  return stopOnSignal(stoppable, signals, { info: (_, message) => standardError().write(`${message}\n`) });
}

function print(text: string): void {
  standardOutput().write(`${text}\n`);
}

function readPort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new UsageError(`demo: "${text}" is not a port; write a number from 0 to 65535`);
}

function welcome(url: string, dataFolder: string, backendPid: number): string {
  const fromHere = relative(process.cwd(), dataFolder);
  return `
  Holdfast demo. Connections drop; sessions hold.

  Open  ${url}  in two tabs, and try:

    sign in, write in one tab and read in the other
    "Cut the connection": it comes back by itself, the session holds
    reload, close and open a tab: still signed in
    end the backend (kill ${backendPid}): it is started again
    end this server (kill -9 ${process.pid}) and start it again: still signed in, the tabs come back
    sign out in one tab: the sockets of all tabs close at once

  Sessions are kept in ${fromHere === '' || fromHere.startsWith('..') ? dataFolder : fromHere}. Ctrl+C ends the demo.
`;
}
