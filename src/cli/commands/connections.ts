import type { ConnectionEntry, ConnectionList } from '../../admin/shapes.ts';
import { type Action, actionCommand, textOption, wholeNumber } from '../actions.ts';
import { type Command, type OptionValues, UsageError } from '../command.ts';
import { byteText, span, table } from '../table.ts';

const FILTERS = ['route', 'address', 'user', 'session'] as const;

const list: Action = {
  options: [...FILTERS, 'limit'],
  async run({ client, options, print }) {
    const query = { ...filtersOf(options), limit: wholeNumber('limit', options.limit) };
    const found = await client.get<ConnectionList>('/v1/connections', query);
    return print(found, () => listText(found));
  },
};

const close: Action = {
  takes: ['ID'],
  options: [...FILTERS, 'code', 'reason'],
  async run({ client, words: [id], options, print }) {
    const filters = { ...(id !== undefined && { id }), ...filtersOf(options) };
    if (Object.keys(filters).length === 0)
      throw new UsageError(
        'connections close: name one connection (ID), or say which with --route, --address, --user or --session',
      );
    const code = wholeNumber('code', options.code);
    const reason = textOption(options.reason);
    const answer = await client.post<{ closed: number }>('/v1/connections/close', {
      ...filters,
      ...(code !== undefined && { code }),
      ...(reason !== undefined && { reason }),
    });
    return print(answer, () => `${answer.closed} ${answer.closed === 1 ? 'connection' : 'connections'} closing\n`);
  },
};

export const connections: Command = actionCommand({
  name: 'connections',
  summary: 'List and close the open WebSockets of a running server.',
  positionals: [
    { name: 'list|close', help: 'default: list', optional: true },
    { name: 'ID', help: 'of close: the connection, as list shows it', optional: true },
  ],
  options: {
    route: { type: 'string', placeholder: 'NAME', help: 'only those of this route' },
    address: { type: 'string', placeholder: 'A', help: 'only those of this client address or block (192.0.2.0/24)' },
    user: { type: 'string', placeholder: 'NAME', help: 'only those of this user' },
    session: {
      type: 'string',
      placeholder: 'SID',
      help: 'only those of this session: its first characters (at least 4)',
    },
    limit: { type: 'string', placeholder: 'N', help: 'list: how many at most; default 100' },
    code: { type: 'string', placeholder: 'N', help: 'close: the close code; default 1001 (going away)' },
    reason: { type: 'string', placeholder: 'TEXT', help: 'close: the reason that clients are told, at most 123 bytes' },
  },
  actions: { list, close },
});

function filtersOf(options: OptionValues): Record<string, string> {
  const given = FILTERS.flatMap(name => (typeof options[name] === 'string' ? [[name, options[name]]] : []));
  return Object.fromEntries(given);
}

function listText({ connections: found, total, isPartial }: ConnectionList): string {
  if (total === 0) return 'no connections\n';
  const now = Date.now();
  const hasWorkers = found.some(({ worker }) => worker !== undefined);
  const rows = table<ConnectionEntry>(found, [
    { title: 'ID', value: ({ id }) => id },
    ...(hasWorkers
      ? [{ title: 'WORKER', value: ({ worker }: ConnectionEntry) => worker, isNumber: true as const }]
      : []),
    { title: 'ROUTE', value: ({ route }) => route, width: 20 },
    { title: 'ADDRESS', value: ({ address }) => address },
    { title: 'USER', value: ({ user }) => user, width: 16 },
    { title: 'SESSION', value: ({ session }) => session },
    { title: 'OPEN FOR', value: ({ openedAt }) => span(now - openedAt), isNumber: true },
    { title: 'IN', value: ({ messagesReceived }) => messagesReceived, isNumber: true },
    { title: 'OUT', value: ({ messagesSent }) => messagesSent, isNumber: true },
    { title: 'BYTES', value: bytesOf, isNumber: true },
    { title: 'SERVER', value: ({ server }) => server, width: 32 },
  ]);
  const more = isPartial ? `${found.length} of ${total}: narrow it with a filter, or raise --limit\n` : '';
  return rows + more;
}

function bytesOf({ bytesReceived, bytesSent }: ConnectionEntry): string | undefined {
  return bytesReceived === undefined ? undefined : byteText(bytesReceived + (bytesSent ?? 0));
}
