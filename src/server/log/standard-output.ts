import { constants, fstatSync, openSync, write, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { isatty } from 'node:tty';
import { systemClock } from '../../base/clock.ts';
import { type ByteSink, LineOutput } from './line-output.ts';

/** How long the end of the process waits for somebody who reads slowly, for each of the two. */
const FINISH_MS = 500;

let outputs: { readonly out: LineOutput; readonly error: LineOutput } | undefined;

/** The process's stdout for lines. */
export function standardOutput(): LineOutput {
  return opened().out;
}

/** The process's stderr for lines. */
export function standardError(): LineOutput {
  return opened().error;
}

/** One of each: what several servers of a process write must not stand inside each other's lines. */
function opened() {
  if (outputs) return outputs;
  const out = new LineOutput('stdout', openDescriptor(1), systemClock, true);
  const error = new LineOutput('stderr', openDescriptor(2));
  outputs = { out, error };
  process.on('exit', () => {
    // In this order: what the first has lost is said by the second.
    out.finish(FINISH_MS);
    error.finish(FINISH_MS);
  });
  return outputs;
}

/**
 * Neither of Node's own ways will do: its streams grow without bound and fail with an event that ends the process, and
 * a write in the foreground waits for whoever reads a pipe. So a pipe, a socket and a terminal are written without
 * waiting; files in another thread, one write at a time.
 */
function openDescriptor(fd: 1 | 2): ByteSink {
  return nonblocking(fd) ?? inBackground(fd);
}

function nonblocking(fd: 1 | 2): ByteSink | undefined {
  const isTerminal = isatty(fd);
  const stat = fstatSync(fd);
  if (!isTerminal && !stat.isFIFO() && !stat.isSocket()) return undefined;
  const own = isTerminal || stat.isFIFO() ? reopened(fd) : undefined;
  if (own !== undefined) return sinkOf(own);
  // Node makes pipes and sockets non-blocking when its stream is made, but not on Windows.
  const stream = fd === 1 ? process.stdout : process.stderr;
  return !isTerminal && process.platform !== 'win32' && (stream as unknown) instanceof Socket ? sinkOf(fd) : undefined;
}

/**
 * The same pipe or terminal, opened once more: `O_NONBLOCK` then concerns us alone. With the descriptor that we were
 * started with, it would concern every program that has it, and another program that ends can take it away. Linux has
 * this, where the owner allows it.
 */
function reopened(fd: number): number | undefined {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return undefined;
  }
}

function sinkOf(fd: number): ByteSink {
  const writeNow = (bytes: Uint8Array) => writeSync(fd, bytes);
  return {
    writeNow,
    write(bytes, onDone) {
      let written: number;
      try {
        written = writeNow(bytes);
      } catch (error) {
        onDone(error as NodeJS.ErrnoException, 0);
        return;
      }
      onDone(null, written);
    },
  };
}

function inBackground(fd: number): ByteSink {
  return { write: (bytes, onDone) => write(fd, bytes, onDone), writeNow: bytes => writeSync(fd, bytes) };
}
