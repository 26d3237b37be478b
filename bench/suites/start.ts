import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Measurement, Suite } from '../comparison.ts';
import { cpuTimeNs, residentBytes } from '../process-usage.ts';
import { installed } from '../start/installed.ts';

const MIB = 1024 * 1024;
/** How long a server has been ready when its memory is measured. */
const QUIET_MS = 2_000;
/** What it may have more than a Node that does nothing. */
const ALLOWED_MIB = 36;

/** Those that have been started once: what a first start compiles, the others find. */
const begun = new Set<string>();

/** Starts the program of the installed package, and says so when it is ready. */
async function serving<T>(
  checkout: string | undefined,
  measure: (pid: number, ms: number) => T | Promise<T>,
): Promise<T> {
  const { program, folder } = await installed(checkout);
  const start = async <U>(then: (pid: number, ms: number) => U | Promise<U>, signal: NodeJS.Signals): Promise<U> => {
    const begin = performance.now();
    const child = spawn(process.execPath, [program, 'serve'], {
      cwd: folder,
      env: { ...process.env, XDG_CACHE_HOME: folder },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    try {
      await printed(child, '"event":"started"');
      return await then(child.pid!, performance.now() - begin);
    } finally {
      const exited = once(child, 'exit');
      child.kill(signal);
      await exited;
    }
  };
  if (!begun.has(folder)) await start(() => sleep(QUIET_MS), 'SIGTERM');
  begun.add(folder);
  return start(measure, 'SIGKILL');
}

async function printed({ stderr }: ChildProcess, text: string): Promise<void> {
  let output = '';
  for await (const chunk of stderr!.iterator({ destroyOnReturn: false })) {
    output += chunk;
    if (output.includes(text)) return void stderr!.resume();
  }
  throw new Error(`it ended before it was ready:\n${output}`);
}

const readyMs: Measurement = ({ checkout }) => serving(checkout, (_pid, ms) => ms);

const cpuMs: Measurement = ({ checkout }) => serving(checkout, pid => cpuTimeNs(pid) / 1e6);

/** MiB above a Node that waits, of the same minute. */
const memory: Measurement = async ({ checkout }) => {
  const bare = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e9)'], { stdio: 'ignore' });
  try {
    const ours = await serving(checkout, async pid => {
      await sleep(QUIET_MS);
      return residentBytes(pid);
    });
    return (ours - residentBytes(bare.pid!)) / MIB;
  } finally {
    bare.kill('SIGKILL');
  }
};

const bareMs: Measurement = async () => {
  const begin = performance.now();
  await once(spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' }), 'exit');
  return performance.now() - begin;
};

/** As the process itself has it at its end. */
const bareCpuMs: Measurement = async () => {
  const program = 'process.on("exit", () => console.log(JSON.stringify(process.cpuUsage())))';
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'ignore'] });
  const [text] = await once(child.stdout, 'data');
  const { user, system } = JSON.parse(String(text)) as NodeJS.CpuUsage;
  return (user + system) / 1_000;
};

export const suite: Suite = {
  title: 'start of holdfast serve from the installed package, with a configuration that has most of a gateway',
  comparisons: [
    {
      ...{ row: 'until it is ready', peer: 'node -e 0', unit: 'ms', limit: 8 },
      ...{ turns: 2, ours: readyMs, theirs: bareMs },
    },
    {
      ...{ row: 'CPU time until it is ready', peer: 'node -e 0', unit: 'ms CPU', limit: null },
      ...{ turns: 2, ours: cpuMs, theirs: bareCpuMs },
    },
    {
      ...{ row: 'memory above a bare Node, after 2 s', peer: `${ALLOWED_MIB} MiB`, unit: 'MiB', limit: 1 },
      ...{ ours: memory, theirs: async () => ALLOWED_MIB },
    },
  ],
};
