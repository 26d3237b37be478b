import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { text } from 'node:stream/consumers';

const PROGRAM = '/usr/bin/slowhttptest';

/** Why tests that need it are skipped here; undefined when they are not. */
export const slowHttpTestIsMissing: string | undefined = existsSync(PROGRAM)
  ? undefined
  : `${PROGRAM} is not installed`;
if (slowHttpTestIsMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(slowHttpTestIsMissing);

export interface SlowHeads extends Disposable {
  /** What it has printed when it ends: when the server has closed all connections, or after a minute. */
  readonly ended: Promise<string>;
}

/** Opens connections whose request heads go on by a header each second, and never end. */
export function slowHeads(port: number, connections: number): SlowHeads {
  const options = ['-H', '-c', `${connections}`, '-r', '500', '-i', '1', '-x', '24', '-l', '60'];
  const program = spawn(PROGRAM, [...options, '-u', `http://127.0.0.1:${port}/`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return { ended: text(program.stdout), [Symbol.dispose]: () => void program.kill('SIGKILL') };
}
