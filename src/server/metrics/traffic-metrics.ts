import { type Metric, type MetricSource, one, type Sample } from './metric.ts';
import type { SocketTraffic } from './socket-traffic.ts';

const DURATION = 'holdfast_request_duration_seconds';
const KINDS = ['endpoint', 'relay'] as const;

/** Requests, handshakes, and the WebSockets that come of them. */
export const TRAFFIC_METRICS: readonly Metric[] = [
  {
    name: 'holdfast_requests_total',
    type: 'counter',
    help: 'Requests that were answered, WebSocket handshakes apart; status 499 when the client left first.',
    labels: ['route', 'status'],
    *read({ meters }) {
      for (const [route, { answers }] of meters.routes)
        for (const [status, value] of answers) yield { labels: { route, status }, value };
    },
  },
  {
    name: DURATION,
    type: 'histogram',
    help: 'Time from a request to the end of its answer, in seconds.',
    labels: ['route', 'le'],
    *read({ meters }): Generator<Sample> {
      for (const [route, { answers, durations }] of meters.routes) {
        if (answers.size === 0) continue;
        let count = 0;
        for (const [le, value] of durations.cumulative()) {
          yield { labels: { le, route }, value, metricName: `${DURATION}_bucket` };
          count = value;
        }
        yield { labels: { route }, value: durations.sumSeconds, metricName: `${DURATION}_sum` };
        yield { labels: { route }, value: count, metricName: `${DURATION}_count` };
      }
    },
  },
  {
    name: 'holdfast_requests_in_progress',
    type: 'gauge',
    help: 'Requests and handshakes that have no answer yet, or whose answer is under way.',
    labels: [],
    read: ({ assembly, meters }) => one(meters.requestsNow + assembly.handshakes.size),
  },
  {
    name: 'holdfast_handshakes_total',
    type: 'counter',
    help: 'WebSocket handshakes by what became of them: accepted, refused (by Holdfast or an endpoint), declined (by a backend), client-gone.',
    labels: ['route', 'result'],
    *read({ meters }) {
      for (const [route, { handshakes }] of meters.routes)
        for (const [result, value] of Object.entries(handshakes))
          if (value > 0) yield { labels: { route, result }, value };
    },
  },
  {
    name: 'holdfast_refusals_total',
    type: 'counter',
    help: 'Requests and handshakes that were refused, by the error code (docs/reference/errors.md).',
    labels: ['kind', 'code'],
    *read({ meters }) {
      for (const [key, value] of meters.refusals) yield { labels: pair(key, 'kind', 'code'), value };
    },
  },
  {
    name: 'holdfast_limits_refused_total',
    type: 'counter',
    help: 'What was refused by a limit, by the name of the limit in the configuration.',
    labels: ['limit'],
    *read({ meters }) {
      for (const [limit, value] of meters.limits) yield { labels: { limit }, value };
    },
  },
  {
    name: 'holdfast_sockets_open',
    type: 'gauge',
    help: 'WebSockets that are open: at endpoints, and relayed to backends.',
    labels: ['route', 'kind'],
    // A route that has had sockets goes back to 0: a series that vanishes looks like a server that is gone.
    *read(source) {
      for (const [labels, { open }] of socketsOf(source)) yield { labels, value: open };
    },
  },
  traffic('holdfast_socket_messages_total', 'Messages that went through WebSockets: received is from the client.', {
    received: 'messagesReceived',
    sent: 'messagesSent',
  }),
  traffic(
    'holdfast_socket_bytes_total',
    'Bytes that went through WebSockets, with the headers of frames: received is from the client.',
    { received: 'bytesReceived', sent: 'bytesSent' },
  ),
  {
    name: 'holdfast_socket_messages_dropped_total',
    type: 'counter',
    help: 'Messages that an endpoint did not send, because the client read too slowly (slowReader drop and conflate).',
    labels: ['route'],
    *read({ census }) {
      for (const [route, { endpoint }] of census.routes)
        if (endpoint.isUsed) yield { labels: { route }, value: endpoint.messagesDropped };
    },
  },
  {
    name: 'holdfast_socket_send_buffer_bytes',
    type: 'gauge',
    help: 'Bytes that wait in this process for the clients of endpoints to read.',
    labels: [],
    read: ({ census }) => one(census.bufferedBytes),
  },
  {
    name: 'holdfast_socket_closes_total',
    type: 'counter',
    help: 'WebSockets that closed, by close code: 1013 is a client that read too slowly; codes of applications are counted together as 3xxx and 4xxx.',
    labels: ['kind', 'code'],
    *read({ meters }) {
      for (const [key, value] of meters.closes) yield { labels: pair(key, 'kind', 'code'), value };
    },
  },
  {
    name: 'holdfast_topics',
    type: 'gauge',
    help: 'Topics that have a subscriber in this process.',
    labels: [],
    read: ({ assembly }) => one(assembly.services.topics.size),
  },
];

function traffic(name: string, help: string, directions: Record<'received' | 'sent', keyof SocketTraffic>): Metric {
  return {
    name,
    type: 'counter',
    help,
    labels: ['route', 'kind', 'direction'],
    *read(source): Iterable<Sample> {
      for (const [labels, sockets] of socketsOf(source))
        for (const [direction, key] of Object.entries(directions))
          yield { labels: { ...labels, direction }, value: sockets[key] };
    },
  };
}

function* socketsOf({ census }: MetricSource) {
  for (const [route, ofRoute] of census.routes)
    for (const kind of KINDS) if (ofRoute[kind].isUsed) yield [{ route, kind }, ofRoute[kind]] as const;
}

/** A key of two words. */
function pair(key: string, first: string, second: string): Record<string, string> {
  const space = key.indexOf(' ');
  return { [first]: key.slice(0, space), [second]: key.slice(space + 1) };
}
