import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { Ports } from './site.ts';

export type AttackName = 'addresses' | 'hellos' | 'handshakes' | 'guesses' | 'messages' | 'pings' | 'fragments';
/** What an attacker has got, and how often. */
export type Tally = Readonly<Record<string, number>>;

const ATTACKER = fileURLToPath(new URL('attacker.ts', import.meta.url));

/** A process that attacks. */
export class Attack {
  readonly #child: ChildProcess;
  /** When it has done all it had to, or was told to end. */
  readonly ended: Promise<Tally>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.ended = text(child.stdout!).then(printed => JSON.parse(printed.slice(printed.indexOf('\n'))));
    // Of one that was killed because the test has failed nobody asks for it.
    this.ended.catch(() => {});
  }

  static async start(name: AttackName, ports: Ports): Promise<Attack> {
    const args = ['-C', 'holdfast-source', ATTACKER, name, JSON.stringify(ports)];
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin!.on('error', () => {});
    await once(child.stdout!, 'readable');
    return new Attack(child);
  }

  end(): Promise<Tally> {
    this.#child.stdin!.end();
    return this.ended;
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}
