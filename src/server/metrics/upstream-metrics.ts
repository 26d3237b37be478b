import type { ServerState } from '../../gateway/upstream/server.ts';
import type { Upstream } from '../../gateway/upstream/upstream.ts';
import { BoundedNames } from './bounded-names.ts';
import type { Source } from './growing-totals.ts';
import type { Metric, MetricSource, Sample } from './metric.ts';

/** More upstreams or servers than this, over the life of a process, are counted together. */
const MAX_NAMES = 1_000;
const PREFIX = 'upstream';
/** No part of a URL or a name can have one. */
const SEPARATOR = '\n';
const STATES: readonly ServerState[] = ['in-service', 'ejected', 'unhealthy', 'draining'];

const upstreamNames = new BoundedNames(MAX_NAMES);
const serverNames = new BoundedNames(MAX_NAMES);

function keyOf(what: string, upstream: string, server = ''): string {
  return [PREFIX, what, upstreamNames.of(upstream), server && serverNames.of(server)].join(SEPARATOR);
}

/** What an upstream and its servers have counted. */
export function upstreamSources(upstream: Upstream): Source[] {
  const { name } = upstream;
  const own: Source = {
    of: upstream,
    *read() {
      const { moves, retries, clientViolations } = upstream.status;
      yield [keyOf('moves', name), moves];
      yield [keyOf('retries', name), retries];
      yield [keyOf('violations', name), clientViolations];
    },
  };
  const ofServers = upstream.servers.map(server => ({
    of: server,
    *read() {
      const { url, requests, failures, ejections } = server.status;
      yield [keyOf('requests', name, url), requests] as const;
      yield [keyOf('failures', name, url), failures] as const;
      yield [keyOf('ejections', name, url), ejections] as const;
    },
  }));
  return [own, ...ofServers];
}

/** Backends: how they are, and what they were given. */
export const UPSTREAM_METRICS: readonly Metric[] = [
  {
    name: 'holdfast_upstream_server_state',
    type: 'gauge',
    help: '1 for the state that a server is in, and 0 for the others: in-service, ejected, unhealthy, draining. Of several processes: how many see it so.',
    labels: ['upstream', 'server', 'state'],
    *read(source) {
      for (const [labels, server] of serversOf(source))
        for (const state of STATES) yield { labels: { ...labels, state }, value: server.state === state ? 1 : 0 };
    },
  },
  {
    name: 'holdfast_upstream_active',
    type: 'gauge',
    help: 'Requests and WebSockets that are under way at a server, handshakes included.',
    labels: ['upstream', 'server'],
    *read(source) {
      for (const [labels, server] of serversOf(source)) yield { labels, value: server.status.active };
    },
  },
  {
    name: 'holdfast_upstream_sockets',
    type: 'gauge',
    help: 'WebSockets that are relayed to a server.',
    labels: ['upstream', 'server'],
    *read(source) {
      for (const [labels, server] of serversOf(source)) yield { labels, value: server.status.sockets };
    },
  },
  {
    name: 'holdfast_upstream_connections',
    type: 'gauge',
    help: 'Connections for HTTP requests to a server, by state: busy, idle; and requests that wait for one (waiting).',
    labels: ['upstream', 'server', 'state'],
    *read(source) {
      for (const [labels, { connections }] of serversOf(source))
        for (const [state, value] of Object.entries(connections.counts)) yield { labels: { ...labels, state }, value };
    },
  },
  serverCounter('requests', 'Requests and handshakes that a server was given.'),
  serverCounter('failures', 'Requests and handshakes to which a server gave no usable answer.'),
  serverCounter('ejections', 'Times that a server was taken out of service.'),
  upstreamCounter('retries', 'Times that a request was given to another server than the first one chosen.'),
  upstreamCounter('moves', 'Times that a client was moved away from the server it belonged to.'),
  upstreamCounter('violations', 'Relayed WebSockets that ended because their client broke the protocol or a limit.'),
];

function serverCounter(what: string, help: string): Metric {
  const labels = ['upstream', 'server'];
  return { name: `holdfast_upstream_${what}_total`, type: 'counter', help, labels, read: totalsOf(what) };
}

function upstreamCounter(what: string, help: string): Metric {
  const labels = ['upstream'];
  return { name: `holdfast_upstream_${what}_total`, type: 'counter', help, labels, read: totalsOf(what) };
}

function totalsOf(what: string): Metric['read'] {
  return function* ({ totals }): Generator<Sample> {
    for (const [rest, value] of totals.under([PREFIX, what, ''].join(SEPARATOR))) {
      const [upstream = '', server = ''] = rest.split(SEPARATOR);
      yield { labels: { upstream, ...(server !== '' && { server }) }, value };
    }
  };
}

function* serversOf({ assembly }: MetricSource) {
  for (const { name, servers } of assembly.upstreams.values())
    for (const server of servers)
      yield [{ upstream: upstreamNames.of(name), server: serverNames.of(server.url) }, server] as const;
}
