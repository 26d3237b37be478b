import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { testClient } from '../../src/testing/test-client.ts';

export interface VictimState {
  readonly connections: number;
  /** Nothing is open, closing or half open at the endpoint. */
  readonly isEmpty: boolean;
  /** Bytes that objects hold, after garbage collection. */
  readonly held: number;
  /** Bytes of the process in memory now. */
  readonly rss: number;
  /** The most there ever were. */
  readonly peak: number;
}

/** A server that echoes at `/echo`, in a process of its own. */
export interface Victim extends AsyncDisposable {
  readonly url: string;
  state(): Promise<VictimState>;
  /** Throws when it does not serve any more. */
  serves(): Promise<void>;
}

export const MIB = 1024 * 1024;

export async function startVictim({ headerTimeout }: { headerTimeout: string }): Promise<Victim> {
  const child = fork(fileURLToPath(new URL('victim.ts', import.meta.url)), [headerTimeout], {
    execArgv: ['-C', 'holdfast-source', '--expose-gc'],
  });
  const exited = once(child, 'exit');
  const [{ url }] = (await Promise.race([
    once(child, 'message'),
    exited.then(() => {
      throw new Error('the server has not started');
    }),
  ])) as [{ url: string }];
  const victim: Victim = {
    url: `${url}/echo`,
    async state() {
      child.send('state');
      const [state] = (await once(child, 'message')) as [VictimState];
      return state;
    },
    async serves() {
      await using client = await testClient(victim.url);
      client.send('still there?');
      const answer = await client.receive();
      if (answer !== 'still there?') throw new Error(`the server answered ${String(answer)}`);
    },
    async [Symbol.asyncDispose]() {
      child.disconnect();
      await exited;
    },
  };
  // What is loaded and compiled at first use is no growth.
  for (let i = 0; i < 20; i++) await victim.serves();
  return victim;
}
