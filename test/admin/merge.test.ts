import { expect, test } from 'vitest';
import {
  mergeBans,
  mergeConnections,
  mergeLimits,
  mergeStatus,
  mergeTopics,
  mergeUpstreams,
} from '../../src/admin/merge.ts';
import type { ConnectionEntry, Status } from '../../src/admin/shapes.ts';
import * as shapes from '../../src/admin/shapes.ts';

function statusOf(pid: number, sockets: number, rest: Partial<Status> = {}): Status {
  const clients = { url: 'http://localhost:8080', serves: 'clients' as const };
  return {
    ...{
      version: '1',
      node: '26',
      pid,
      state: 'running',
      isReady: true,
      startedAt: pid,
      uptimeMs: 1,
      dataFolder: '/d',
    },
    listeners: [clients],
    counts: {
      ...{
        sockets,
        handshakes: 1,
        sessionsInMemory: 2,
        sessionsInUse: 0,
        sessionsCreated: 3,
        sessionsEnded: 0,
        bans: 0,
      },
    },
    memory: { residentBytes: 100, heapUsedBytes: 10, heapTotalBytes: 20, externalBytes: 1 },
    cpu: { userMs: 5.5, systemMs: 1 },
    workers: [],
    ...rest,
  };
}

function connection(id: string, openedAt: number): ConnectionEntry {
  return {
    ...{ id, kind: 'endpoint', route: 'r', address: '::1', openedAt },
    ...{ messagesReceived: 0, messagesSent: 0 },
  };
}

test('the status of workers is their sum, and says what each has', () => {
  const supervisor = statusOf(1, 0, { listeners: [] });
  const merged = mergeStatus(supervisor, [
    { worker: 1, answer: statusOf(2, 40) },
    { worker: 2, answer: statusOf(3, 2) },
  ]);
  expect(shapes.status.parse(merged)).toEqual(merged);
  expect(merged.counts).toMatchObject({ sockets: 42, handshakes: 2, sessionsCreated: 6 });
  expect(merged.memory.residentBytes).toBe(300);
  expect(merged.cpu.userMs).toBe(16.5);
  expect(merged.listeners).toHaveLength(1);
  expect(merged.workers.map(({ worker, pid, counts }) => [worker, pid, counts.sockets])).toEqual([
    [1, 2, 40],
    [2, 3, 2],
  ]);
  expect(merged.isReady).toBe(true);
});

test('workers are ready when all of them are', () => {
  const workers = [
    { worker: 1, answer: statusOf(2, 0) },
    { worker: 2, answer: statusOf(3, 0, { isReady: false, state: 'starting' }) },
  ];
  expect(mergeStatus(statusOf(1, 0), workers).isReady).toBe(false);
  expect(mergeStatus(statusOf(1, 0), []).isReady).toBe(false);
});

test('connections of workers are one list, the oldest first, bounded, each with its worker', () => {
  const answers = [
    { worker: 1, answer: { connections: [connection('a', 1), connection('c', 3)], total: 2, isPartial: false } },
    { worker: 2, answer: { connections: [connection('b', 2)], total: 7, isPartial: true } },
  ];
  const merged = mergeConnections(answers, 2);
  expect(merged.connections.map(({ id, worker }) => [id, worker])).toEqual([
    ['a', 1],
    ['b', 2],
  ]);
  expect([merged.total, merged.isPartial]).toEqual([9, true]);
});

test('servers of an upstream stand there once for each worker, and its counters are sums', () => {
  const server = {
    ...{ url: 'http://a', weight: 1, state: 'in-service' as const, returnsInMs: 0 },
    ...{ active: 0, sockets: 0, requests: 1, failures: 0, ejections: 0 },
  };
  const answer = { upstreams: [{ name: 'app', servers: [server], moves: 1, retries: 2, clientViolations: 3 }] };
  const merged = mergeUpstreams([
    { worker: 1, answer },
    { worker: 2, answer },
  ]);
  expect(shapes.upstreamList.parse(merged)).toEqual(merged);
  expect(merged.upstreams).toEqual([
    {
      ...{ name: 'app', moves: 2, retries: 4, clientViolations: 6 },
      servers: [
        { ...server, worker: 1 },
        { ...server, worker: 2 },
      ],
    },
  ]);
});

test('subscribers of a topic are those of all workers', () => {
  const list = (topics: { topic: string; subscribers: number }[]) => ({
    topics,
    total: topics.length,
    isPartial: false,
  });
  const answers = [
    { worker: 1, answer: list([{ topic: 'a', subscribers: 3 }]) },
    {
      worker: 2,
      answer: list([
        { topic: 'b', subscribers: 4 },
        { topic: 'a', subscribers: 2 },
      ]),
    },
  ];
  expect(mergeTopics(answers, 1)).toEqual({ topics: [{ topic: 'a', subscribers: 5 }], total: 2, isPartial: true });
});

test('limits stand there once for each worker', () => {
  const limit = { of: 'the server', limit: 'connections', most: 10, keys: 1, highest: 2, isShared: false };
  const answers = [1, 2].map(worker => ({ worker, answer: { limits: [limit] } }));
  expect(mergeLimits(answers).limits.map(({ worker }) => worker)).toEqual([1, 2]);
});

test('a client that several workers have banned stands there once, with the ban that lasts longest', () => {
  const ban = (client: string, until: number) => ({ client, until, reason: 'r', offence: 1 });
  const answers = [
    { worker: 1, answer: { bans: [ban('192.0.2.1', 10), ban('192.0.2.2', 50)], total: 2, isPartial: false } },
    { worker: 2, answer: { bans: [ban('192.0.2.1', 30)], total: 1, isPartial: false } },
  ];
  const bans = [ban('192.0.2.1', 30), ban('192.0.2.2', 50)];
  expect(mergeBans(answers, 10)).toEqual({ bans, total: 2, isPartial: false });
  expect(mergeBans(answers, 1)).toEqual({ bans: bans.slice(0, 1), total: 2, isPartial: true });
});
