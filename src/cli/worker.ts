import type { Duration } from '../base/duration.ts';
import { type ReadConfig, readConfig } from '../config/load.ts';
import { modules } from '../config/modules.ts';
import type { LogControl } from '../server/log/log-control.ts';
import type { Server } from '../server/server.ts';
import type { WorkerReady } from '../server/workers/supervisor.ts';
import type { ExitCode } from './command.ts';
import { NodeMessages } from './node-messages.ts';
import { SAID_AT_START } from './said-doubts.ts';

/** For the supervisor alone: a terminal sends some of them to every process that it has started. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'];

/** One of several workers: as `holdfast serve`, with the ports of the supervisor, which tells it what to do. */
export async function serveAsWorker(file: string): Promise<ExitCode> {
  for (const signal of SIGNALS) process.on(signal, () => {});
  const messages = new NodeMessages();
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  const { Worker } = await import('../server/workers/worker.ts');
  const { administeredOf, createServer, threadFilesOf } = await import('../server/server.ts');
  const { LogControl: Logs } = await import('../server/log/log-control.ts');
  const ended = Promise.withResolvers<ExitCode>();
  // Before the first module of the application is loaded.
  modules.watch();
  let read: ReadConfig;
  let server: Server | undefined;
  let hasStarted = false;
  let isStopping = false;
  const worker = new Worker({
    administered: () => administeredOf(server!),
    metricsOfProcess: () => server!.metricsOfProcess(),
    async reload() {
      let next: ReadConfig | undefined;
      const reload = server!.reload(async () => {
        next = await readConfig(file);
        return next.config;
      });
      const report = await reload.catch(error => fail(error, next));
      read = next!;
      return { ...ready(), report, outdated: await modules.outdated(loaded()) };
    },
    stop: options => stop(options),
    leave() {
      // A start can hang, in `init` of an endpoint for example. Nobody is left to end it then.
      if (!hasStarted) process.exit(1);
      stop({ restart: true });
    },
  });
  const loaded = () => [...read.files.keys(), ...modules.loaded];
  const ready = (): WorkerReady => {
    const { urls, internalUrl } = server!;
    return { urls, internalUrl, imports: [...modules.importsOf(loaded()), ...threadFilesOf(server!).keys()] };
  };
  const stop = ({ drain, restart = false }: { drain?: Duration; restart?: boolean }) => {
    // It reads its configuration still: nobody has come to it.
    if (!server) process.exit(1);
    const stopped = server.stop({ ...(drain !== undefined && { drain }), restart });
    // What is asked for once more makes it sooner.
    stopped.catch(() => {});
    if (isStopping) return;
    isStopping = true;
    stopped.then(() => ended.resolve(0), ended.reject);
  };
  const fail = async (error: unknown, of: ReadConfig | undefined): Promise<never> => {
    throw of ? await (await import('./examine.ts')).withPlaces(error, of) : error;
  };
  let logs: LogControl | undefined;
  try {
    read = await readConfig(file);
    logs = Logs.open(read.config.log, { without: SAID_AT_START });
    messages.logTo(logs.logger.of('cli'));
    server = createServer(read.config, { logs, portOf: worker.portOf, operations: { configFile: file } });
    await server.start().catch(error => fail(error, read));
    hasStarted = true;
    worker.ready(ready());
    return await ended.promise;
  } catch (error) {
    if (!isStopping) worker.failed(error);
    else logs?.logger.of('cli').error({ event: 'worker-failed', err: error }, 'a worker did not stop well');
    return 1;
  } finally {
    worker.close();
    await logs?.close();
  }
}
