import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The `main.ts` of an example in a process of its own, on a free port, with an empty folder to work in. */
export class ExampleProcess {
  readonly #main: string;
  readonly #environment: Readonly<Record<string, string>>;
  #folder: string | undefined;
  #process: ChildProcess | undefined;
  /** What it printed that begins with http:// or https://, without the path. */
  origin = '';
  /** The same for every address in that line. */
  origins: readonly string[] = [];

  constructor(name: string, environment: Readonly<Record<string, string>> = {}) {
    this.#environment = environment;
    this.#main = fileURLToPath(new URL(`../../examples/${name}/main.ts`, import.meta.url));
  }

  /** Again after a kill: in the same folder and on the same port. */
  async start(): Promise<void> {
    this.#folder ??= await mkdtemp(join(tmpdir(), 'holdfast-example-'));
    const child = spawn(process.execPath, ['-C', 'holdfast-source', this.#main], {
      cwd: this.#folder,
      env: { ...process.env, PORT: new URL(this.origin || 'http://localhost:0').port, ...this.#environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = child;
    let output = '';
    this.origins = await new Promise<string[]>((resolve, reject) => {
      const read = (chunk: Buffer) => {
        output += chunk;
        const line = /\b(?:open|connect to) https?:\/\/.*\n/.exec(output)?.[0];
        if (line) resolve(line.match(/\bhttps?:\/\/[^/\s]+/g)!);
      };
      child.stdout.on('data', read);
      child.stderr.on('data', read);
      child.on('exit', code => reject(new Error(`the example ended with ${code}:\n${output}`)));
    });
    this.origin = this.origins[0]!;
  }

  /** Where it works, when it has been started. */
  get folder(): string {
    return this.#folder!;
  }

  /** Without any warning to it. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (child && child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }

  /** As an operating system that stops services; resolves with the status that it ends with. */
  async terminate(): Promise<number> {
    this.#process!.kill('SIGTERM');
    return (await once(this.#process!, 'exit'))[0];
  }

  async dispose(): Promise<void> {
    await this.kill();
    if (this.#folder) await rm(this.#folder, { recursive: true, force: true });
  }

  url(path: string): string {
    return this.origin + path;
  }
}
