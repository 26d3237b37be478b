import type { Measurement } from './comparison.ts';
import type { EchoOptions } from './load/echo.ts';
import { BINARY, TEXT } from './load/frames.ts';
import type { PublishOptions } from './load/publish.ts';
import type { LoadResult } from './load/window.ts';
import { residentBytes } from './process-usage.ts';
import { type Server, startLoad } from './program.ts';

/** What a program must be told to be put under load. */
export interface Subject {
  /** @param checkout As in `Effort`; peers have no use for it. */
  start(work: Work, checkout?: string): Promise<Server>;
  /** Default `/`. */
  path?: string;
  /** Default `plain`. */
  protocol?: 'plain' | 'socket.io';
  /** What stands around the text of a message, for protocols on top of WebSocket. */
  around?: readonly [string, string];
}

/** What a server does with a message: send it back, or send it to every connection. */
export type Work = 'echo' | 'publish';

export interface EchoWork {
  /** Payload bytes. */
  size: number;
  connections: number;
  inFlight: number;
  /** Default `text`. */
  type?: 'text' | 'binary';
}

/** CPU time of the server for one echo, in µs. */
export function echo(subject: Subject, work: EchoWork): Measurement {
  return async ({ warmUpMs, measureMs, checkout }) => {
    await using server = await subject.start('echo', checkout);
    const { size, connections, inFlight, type = 'text' } = work;
    const options: EchoOptions = {
      ...clientsOf(subject, server, connections),
      ...{ pid: server.pid, warmUpMs, measureMs },
      ...{ size, inFlight, opcode: type === 'text' ? TEXT : BINARY, around: subject.around },
    };
    await using load = startLoad('echo.ts', options);
    return cpuTimePerMessage(await load.next<LoadResult>());
  };
}

/** CPU time of the server for one delivered copy of a published 64 B text, in µs. */
export function publish(subject: Subject, connections: number): Measurement {
  return async ({ warmUpMs, measureMs, checkout }) => {
    await using server = await subject.start('publish', checkout);
    const options: PublishOptions = {
      ...clientsOf(subject, server, connections),
      ...{ pid: server.pid, warmUpMs, measureMs },
      ...{ size: 64, opcode: TEXT, around: subject.around },
    };
    await using load = startLoad('publish.ts', options);
    return cpuTimePerMessage(await load.next<LoadResult>());
  };
}

/** Connections opened and closed before memory is measured, so that what the server makes once is not counted. */
const MEMORY_WARM_UP = 100;

/** Growth of the server's memory for one open, quiet connection, in bytes, garbage collected before and after. */
export function idleMemory(subject: Subject, connections: number): Measurement {
  return async ({ checkout }) => {
    await using server = await subject.start('echo', checkout);
    {
      await using warmUp = startLoad('idle.ts', clientsOf(subject, server, MEMORY_WARM_UP));
      await warmUp.next();
    }
    await server.collect();
    const before = residentBytes(server.pid);
    await using load = startLoad('idle.ts', clientsOf(subject, server, connections));
    await load.next();
    await server.collect();
    return (residentBytes(server.pid) - before) / connections;
  };
}

function clientsOf(subject: Subject, server: Server, connections: number) {
  return { port: server.port, path: subject.path ?? '/', protocol: subject.protocol ?? 'plain', connections } as const;
}

function cpuTimePerMessage({ cpuNs, messages }: LoadResult): number {
  return cpuNs / messages / 1000;
}
