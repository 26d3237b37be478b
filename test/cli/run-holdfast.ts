import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const bin = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));

/** A running `holdfast`, as a user starts it. */
export class Holdfast {
  readonly process: ChildProcess;
  stdout = '';
  stderr = '';
  /** Resolves with the exit code, or with the signal that ended it. */
  readonly ended: Promise<number | string>;
  #onOutput = () => {};

  constructor(
    args: readonly string[],
    options: {
      cwd?: string;
      env?: Readonly<Record<string, string>> | undefined;
      stdio?: StdioOptions | undefined;
      /** `ulimit -n`. */
      maxDescriptors?: number | undefined;
      /** A command that runs the command that follows it, in its own process: `setpriv`, `unshare` … */
      under?: readonly string[] | undefined;
      /** In the place of this Node. */
      node?: string | undefined;
    } = {},
  ) {
    const command = [...(options.under ?? []), options.node ?? process.execPath, '-C', 'holdfast-source', bin, ...args];
    const { maxDescriptors } = options;
    if (maxDescriptors !== undefined) command.unshift('sh', '-c', `ulimit -n ${maxDescriptors}; exec "$0" "$@"`);
    this.process = spawn(command[0]!, command.slice(1), {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: options.stdio ?? ['ignore', 'pipe', 'pipe'],
    });
    this.process.stdout?.setEncoding('utf8').on('data', text => {
      this.stdout += text;
      this.#onOutput();
    });
    this.process.stderr?.setEncoding('utf8').on('data', text => {
      this.stderr += text;
      this.#onOutput();
    });
    this.ended = new Promise(resolve => this.process.once('close', (code, signal) => resolve(code ?? signal!)));
  }

  /** Resolves when what was printed so far matches. @throws when it ends before. */
  async printed(pattern: RegExp): Promise<RegExpExecArray> {
    const { promise, resolve, reject } = Promise.withResolvers<RegExpExecArray>();
    this.#onOutput = () => {
      const match = pattern.exec(this.stdout) ?? pattern.exec(this.stderr);
      if (match) resolve(match);
    };
    this.#onOutput();
    void this.ended.then(how => reject(new Error(`ended with ${how} before it printed ${pattern}:\n${this.stderr}`)));
    return promise;
  }

  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }
}

export async function runHoldfast(args: readonly string[], options: { cwd?: string } = {}) {
  const program = new Holdfast(args, options);
  const code = await program.ended;
  return { code, stdout: program.stdout, stderr: program.stderr };
}
