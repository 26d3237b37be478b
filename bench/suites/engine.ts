import type { Comparison, Suite } from '../comparison.ts';
import { type EchoWork, echo, idleMemory, publish, type Subject } from '../measurements.ts';
import { startBun } from '../peers/bun.ts';
import { startEchoEpoll } from '../peers/echo-epoll.ts';
import { startNodeServer, startServerOf } from '../program.ts';

const holdfast: Subject = { start: (work, checkout) => startServerOf(checkout, 'holdfast.ts', work) };
const ws: Subject = { start: work => startNodeServer('ws.ts', work) };
const epoll: Subject = { start: startEchoEpoll };
const bun: Subject = { start: startBun };
const socketIo: Subject = {
  start: work => startNodeServer('socket.io.ts', work),
  path: '/socket.io/?EIO=4&transport=websocket',
  protocol: 'socket.io',
  around: ['42["m","', '"]'],
};

const small: EchoWork = { size: 64, connections: 100, inFlight: 1 };
const pipelined: EchoWork = { size: 64, connections: 100, inFlight: 16 };
const large: EchoWork = { size: 4096, connections: 100, inFlight: 1 };

const SMALL = 'echo 64 B, one in flight';
const PIPELINED = 'echo 64 B, 16 in flight';
const LARGE = 'echo 4 KiB, one in flight';
const PUBLISH = 'publish to 5,000 connections';
const MEMORY = 'memory per idle connection';

export const suite: Suite = {
  title: 'the WebSocket engine, echoes on 100 connections',
  comparisons: [
    echoed(SMALL, small, 'ws', ws, 0.75),
    echoed(PIPELINED, pipelined, 'ws', ws, 0.15),
    echoed(LARGE, large, 'ws', ws, 0.65),
    echoed(SMALL, small, 'C epoll loop', epoll, 1.9),
    published('ws', ws, 0.85),
    remembered('ws', ws, 0.8),
    echoed(`${SMALL}, binary`, { ...small, type: 'binary' }, 'ws', ws, null),
    echoed(`${LARGE}, binary`, { ...large, type: 'binary' }, 'ws', ws, null),
    echoed(SMALL, small, 'socket.io', socketIo, null),
    published('socket.io', socketIo, null),
    remembered('socket.io', socketIo, null),
    echoed(SMALL, small, 'Bun', bun, null),
    echoed(PIPELINED, pipelined, 'Bun', bun, null),
    echoed(LARGE, large, 'Bun', bun, null),
    published('Bun', bun, null),
    remembered('Bun', bun, null),
  ],
};

function echoed(row: string, work: EchoWork, peer: string, subject: Subject, limit: number | null): Comparison {
  return { row, peer, unit: 'µs CPU/message', limit, ours: echo(holdfast, work), theirs: echo(subject, work) };
}

function published(peer: string, subject: Subject, limit: number | null): Comparison {
  const [ours, theirs] = [publish(holdfast, 5000), publish(subject, 5000)];
  return { row: PUBLISH, peer, unit: 'µs CPU/delivery', limit, ours, theirs };
}

function remembered(peer: string, subject: Subject, limit: number | null): Comparison {
  const [ours, theirs] = [idleMemory(holdfast, 5000), idleMemory(subject, 5000)];
  return { row: MEMORY, peer, unit: 'bytes', limit, ours, theirs };
}
