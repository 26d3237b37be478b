import type { UpstreamList } from '../../admin/shapes.ts';
import { type Action, type AskedAction, actionCommand, textOption, wholeNumber } from '../actions.ts';
import { adminPath } from '../admin-client.ts';
import type { Command, ExitCode } from '../command.ts';
import { span, table } from '../table.ts';

const list: Action = {
  async run({ client, print }) {
    const found = await client.get<UpstreamList>('/v1/upstreams');
    return print(found, () => listText(found));
  },
};

const drain: Action = {
  needs: ['UPSTREAM', 'URL'],
  options: ['stay', 'over'],
  run(asked) {
    const { options } = asked;
    const over = textOption(options.over);
    return change(asked, 'drain', { ...(options.stay && { sockets: 'stay' }), ...(over !== undefined && { over }) });
  },
};

const resume: Action = { needs: ['UPSTREAM', 'URL'], run: asked => change(asked, 'resume', {}) };

const add: Action = {
  needs: ['UPSTREAM', 'URL'],
  options: ['weight'],
  run(asked) {
    const weight = wholeNumber('weight', asked.options.weight);
    return change(asked, 'add', { ...(weight !== undefined && { weight }) });
  },
};

const remove: Action = {
  needs: ['UPSTREAM', 'URL'],
  options: ['over'],
  run(asked) {
    const over = textOption(asked.options.over);
    return change(asked, 'remove', { ...(over !== undefined && { over }) });
  },
};

export const upstreams: Command = actionCommand({
  name: 'upstreams',
  summary: 'List the servers of upstreams, and drain, resume, add and remove them while the server runs.',
  positionals: [
    { name: 'list|drain|resume|add|remove', help: 'default: list', optional: true },
    { name: 'UPSTREAM', help: 'its name in the configuration', optional: true },
    { name: 'URL', help: 'of the server, as list shows it', optional: true },
  ],
  options: {
    stay: { type: 'boolean', help: 'drain: WebSockets stay until they end; default: they are closed with 1012' },
    over: {
      type: 'string',
      placeholder: 'TIME',
      help: 'drain, remove: the time over which closes are spread; default 30s',
    },
    weight: { type: 'string', placeholder: 'N', help: 'add: its share of new clients; default 1' },
  },
  actions: { list, drain, resume, add, remove },
});

const DONE: Readonly<Record<string, string>> = {
  drain: 'gets nothing new from now on',
  resume: 'takes requests again',
  add: 'was added',
  remove: 'gets nothing new, and is gone when what is under way there is finished',
};

async function change({ client, words, print }: AskedAction, action: string, body: object): Promise<ExitCode> {
  const [upstream = '', server = ''] = words;
  const answer = await client.post<object>(`${adminPath('/v1/upstreams', upstream)}/${action}`, { server, ...body });
  return print(answer, () => `${server} ${DONE[action]}\n`);
}

function listText({ upstreams: found }: UpstreamList): string {
  const rows = found.flatMap(({ name, servers }) => servers.map(server => ({ name, ...server })));
  if (rows.length === 0) return 'no upstreams\n';
  return table(rows, [
    { title: 'UPSTREAM', value: ({ name }) => name, width: 20 },
    { title: 'SERVER', value: ({ url }) => url },
    {
      title: 'STATE',
      value: ({ state, returnsInMs }) => (returnsInMs > 0 ? `${state}, back in ${span(returnsInMs)}` : state),
    },
    { title: 'WEIGHT', value: ({ weight }) => weight, isNumber: true },
    { title: 'ACTIVE', value: ({ active }) => active, isNumber: true },
    { title: 'SOCKETS', value: ({ sockets }) => sockets, isNumber: true },
    { title: 'REQUESTS', value: ({ requests }) => requests, isNumber: true },
    { title: 'FAILED', value: ({ failures }) => failures, isNumber: true },
  ]);
}
