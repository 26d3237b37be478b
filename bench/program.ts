import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A child process that speaks JSON, one value a line, and ends when its standard input does. */
export class Program {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(name: string, command: string, args: readonly string[]) {
    this.#name = name;
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = linesOf(this.#child);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** The next value it prints. */
  async next<Value>(): Promise<Value> {
    const { done, value } = await this.#lines.next();
    if (done) {
      if (this.#isRunning) await once(this.#child, 'exit');
      throw new Error(`${this.#name} ended before it answered, with ${this.#child.exitCode ?? this.#child.signalCode}`);
    }
    return JSON.parse(value) as Value;
  }

  /** Writes a line to its standard input. */
  tell(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  get #isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isRunning) return;
    const ended = once(this.#child, 'exit');
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 2000);
    await ended;
    clearTimeout(timer);
  }
}

async function* linesOf(child: ChildProcess): AsyncGenerator<string> {
  const failed = once(child, 'error').then(([error]) => Promise.reject(error));
  failed.catch(() => {}); // reported by whoever waits for the next line
  const chunks = child.stdout![Symbol.asyncIterator]();
  let text = '';
  for (;;) {
    const end = text.indexOf('\n');
    if (end >= 0) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
      continue;
    }
    const { done, value } = await Promise.race([chunks.next(), failed]);
    if (done) return;
    text += value;
  }
}

/** A program that says by other means when it is ready, and ends on SIGTERM. */
export interface Running extends AsyncDisposable {
  readonly pid: number;
  /** What it has written to stderr. */
  readonly errors: string;
  /** Its exit status or signal, once it has ended. */
  readonly end: number | string | undefined;
}

export function startProcess(command: string, args: readonly string[]): Running {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', text => (errors += text));
  return {
    pid: child.pid!,
    get errors() {
      return errors;
    },
    get end() {
      return child.exitCode ?? child.signalCode ?? undefined;
    },
    async [Symbol.asyncDispose]() {
      if (this.end !== undefined) return;
      child.kill();
      const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** A server under test, ready on its port. */
export interface Server extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  /** Collects garbage, where the server's language has any. */
  collect(): Promise<void>;
}

/** @param managed Whether the server collects garbage when told to. */
export async function startServer(command: string, args: readonly string[], managed: boolean): Promise<Server> {
  const program = new Program([command, ...args].join(' '), command, args);
  try {
    const { port } = await program.next<{ port: number }>();
    return {
      pid: program.pid,
      port,
      async collect() {
        if (!managed) return;
        program.tell('collect');
        await program.next();
      },
      [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
    };
  } catch (error) {
    await program[Symbol.asyncDispose]();
    throw error;
  }
}

/** Runs a module of `servers/` on the Node that runs the benchmark, from source. */
export function startNodeServer(module: string, ...args: readonly string[]): Promise<Server> {
  return startServerOf(undefined, module, ...args);
}

/**
 * The same with the module, the sources and the packages of another checkout of Holdfast.
 *
 * @param checkout Its folder. Undefined: this one.
 */
export function startServerOf(
  checkout: string | undefined,
  module: string,
  ...args: readonly string[]
): Promise<Server> {
  const path = checkout === undefined ? pathOf(`servers/${module}`) : join(checkout, 'bench/servers', module);
  return startServer(process.execPath, ['--expose-gc', '-C', 'holdfast-source', path, ...args], true);
}

/** Starts a module of `load/` with its options. */
export function startLoad(module: string, options: object): Program {
  return new Program(module, process.execPath, [pathOf(`load/${module}`), JSON.stringify(options)]);
}

/** The path of a file in this workspace. */
export function pathOf(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}
