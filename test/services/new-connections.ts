import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('new_connections.mjs', import.meta.url));

export interface ConnectionCounts {
  readonly answered: number;
  /** Of the servers that have answered. */
  readonly pids: readonly string[];
  readonly failures: readonly string[];
}

/** Clients that connect anew for each request, until they are stopped. */
export class NewConnections {
  readonly #process: ChildProcess;

  /** @param url Answers with the pid of its server. @param under A command that runs the one behind it. */
  constructor(url: string, under: readonly string[] = []) {
    const [command, ...args] = [...under, process.execPath, program, url];
    this.#process = spawn(command!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  }

  /** Resolves when the first one has its answer. */
  async answered(): Promise<void> {
    await once(this.#process.stdout!, 'data');
  }

  async stop(): Promise<ConnectionCounts> {
    let text = '';
    this.#process.stdout!.setEncoding('utf8').on('data', chunk => {
      text += chunk;
    });
    const closed = new Promise(resolve => this.#process.once('close', resolve));
    this.#process.stdin!.end();
    await closed;
    return JSON.parse(text.slice(text.indexOf('{'))) as ConnectionCounts;
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }
}
