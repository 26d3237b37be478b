import type { BanEntry, BanList } from '../../admin/shapes.ts';
import { type Action, actionCommand, textOption, wholeNumber } from '../actions.ts';
import { adminPath } from '../admin-client.ts';
import type { Command } from '../command.ts';
import { span, table } from '../table.ts';

const list: Action = {
  options: ['limit'],
  async run({ client, options, print }) {
    const found = await client.get<BanList>('/v1/bans', { limit: wholeNumber('limit', options.limit) });
    return print(found, () => listText(found));
  },
};

const add: Action = {
  needs: ['ADDRESS'],
  options: ['for', 'reason'],
  async run({ client, words: [address], options, print }) {
    const [time, reason] = [textOption(options.for), textOption(options.reason)];
    const ban = await client.post<BanEntry>('/v1/bans', {
      address,
      ...(time !== undefined && { for: time }),
      ...(reason !== undefined && { reason }),
    });
    return print(ban, () => `${ban.client} is banned for ${span(ban.until - Date.now())}\n`);
  },
};

const remove: Action = {
  needs: ['ADDRESS'],
  async run({ client, words: [address], print }) {
    const answer = await client.delete<{ removed: boolean }>(adminPath('/v1/bans', address!));
    print(answer, () => (answer.removed ? `${address} may come in again\n` : `${address} was not banned\n`));
    return answer.removed ? 0 : 1;
  },
};

export const bans: Command = actionCommand({
  name: 'bans',
  summary: 'List, add and lift the bans of a running server.',
  positionals: [
    { name: 'list|add|remove', help: 'default: list', optional: true },
    {
      name: 'ADDRESS',
      help: 'of add and remove: an IPv4 address, or an IPv6 address, which stands for its /64',
      optional: true,
    },
  ],
  options: {
    for: { type: 'string', placeholder: 'TIME', help: 'add: how long, at most 30d; default 1h' },
    reason: { type: 'string', placeholder: 'TEXT', help: 'add: for the log and for list' },
    limit: { type: 'string', placeholder: 'N', help: 'list: how many at most; default 1000' },
  },
  actions: { list, add, remove },
});

function listText({ bans: found, total, isPartial }: BanList): string {
  if (total === 0) return 'nobody is banned\n';
  const now = Date.now();
  const rows = table<BanEntry>(found, [
    { title: 'CLIENT', value: ({ client }) => client },
    { title: 'FOR', value: ({ until }) => span(until - now), isNumber: true },
    { title: 'BY', value: ({ jail }) => jail ?? 'hand' },
    { title: 'OFFENCE', value: ({ offence }) => offence, isNumber: true },
    { title: 'REASON', value: ({ reason }) => reason, width: 48 },
  ]);
  return rows + (isPartial ? `${found.length} of ${total}: raise --limit for more\n` : '');
}
