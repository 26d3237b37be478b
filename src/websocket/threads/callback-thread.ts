/** What a thread of handlers runs: it loads modules, and runs one callback at a time. */
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { getPriority, setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { applicationFile, digestOf } from '../../drivers/application-files.ts';
import { MainThread } from './main-thread.ts';
import type { Task, ThreadStart } from './messages.ts';
import { type PackedError, packError, unpackError } from './packed-error.ts';
import { RemoteConnection } from './remote-connection.ts';
import { RunningCallback } from './running-callback.ts';

/** As `nice -n`: where a core is wanted by both, the main thread, which answers everybody, is next. */
const NICER = 10;
const LEAST_PRIORITY = 19;

type Handler = (connection: object, value: unknown, extra: unknown) => unknown;

const modules = new Map<string, Readonly<Record<string, Handler>>>();
let running: { readonly id: number; readonly callback: RunningCallback } | undefined;

async function load(module: string): Promise<void> {
  try {
    const exported: Readonly<Record<string, unknown>> = await import(module);
    modules.set(module, exported as Readonly<Record<string, Handler>>);
    const exports = Object.entries(exported).map(([name, value]) => [name, typeof value === 'function'] as const);
    main.tell({ kind: 'loaded', module, exports });
  } catch (error) {
    main.tell({ kind: 'not-loaded', module, error: packError(error) });
  }
}

async function run(id: number, task: Task): Promise<void> {
  main.begin(id);
  const callback = new RunningCallback(main, id, task.isAborted);
  running = { id, callback };
  let error: PackedError | undefined;
  try {
    const handler = modules.get(task.module)![task.callback]!;
    await handler(new RemoteConnection(callback, task.connection), argumentOf(task), task.extra);
  } catch (thrown) {
    error = packError(thrown);
  }
  await callback.end();
  running = undefined;
  main.tell({ kind: 'done', id, ...(error && { error }) });
}

function argumentOf({ callback, value }: Task): unknown {
  if (callback === 'onError') return unpackError(value as PackedError);
  // Many functions take no shared memory, and the handler may transfer what it gets.
  return value instanceof SharedArrayBuffer ? Buffer.from(new Uint8Array(new Uint8Array(value)).buffer) : value;
}

/** The main thread learns which files of the application are loaded here, and what they hold: it watches them. */
function reportImports(): void {
  const reported = new Set<string>();
  registerHooks({
    resolve(specifier, context, next) {
      const found = next(specifier, context);
      const path = applicationFile(found.url);
      if (path !== undefined && !reported.has(path)) {
        reported.add(path);
        main.tell({ kind: 'imported', path, digest: digestNow(path) });
      }
      return found;
    },
  });
}

function digestNow(path: string): string | undefined {
  try {
    return digestOf(readFileSync(path));
  } catch {
    // Loading it says what is wrong.
    return undefined;
  }
}

/** Linux alone has a priority for each thread; elsewhere it would be that of the whole process. */
function standBack(): void {
  if (process.platform !== 'linux') return;
  try {
    setPriority(0, Math.min(getPriority(0) + NICER, LEAST_PRIORITY));
  } catch {
    // Where it is forbidden, all are equal.
  }
}

standBack();
let main: MainThread;
// Not `workerData`, which modules of the application may look at: they find nothing there, as in a thread of their own.
parentPort!.once('message', (start: ThreadStart) => {
  main = new MainThread(start, {
    load: module => void load(module),
    run: (id, task) => void run(id, task),
    abort(id) {
      if (running?.id === id) running.callback.abort();
    },
  });
  reportImports();
});
