import type { SessionDetail, SessionEntry, SessionList } from '../../admin/shapes.ts';
import { type Action, actionCommand, textOption, wholeNumber } from '../actions.ts';
import { adminPath } from '../admin-client.ts';
import { type Command, UsageError } from '../command.ts';
import { byteText, facts, span, table, time } from '../table.ts';

const list: Action = {
  options: ['user', 'prefix', 'context', 'limit'],
  async run({ client, options, print }) {
    const found = await client.get<SessionList>('/v1/sessions', {
      user: textOption(options.user),
      prefix: textOption(options.prefix),
      context: textOption(options.context),
      limit: wholeNumber('limit', options.limit),
    });
    return print(found, () => listText(found));
  },
};

const show: Action = {
  needs: ['SID'],
  async run({ client, words: [sid], print }) {
    const found = await client.get<SessionDetail>(adminPath('/v1/sessions', sid!));
    return print(found, () => detailText(found));
  },
};

const end: Action = {
  takes: ['SID'],
  options: ['user'],
  async run({ client, words: [sid], options, print }) {
    const user = textOption(options.user);
    if ((sid === undefined) === (user === undefined))
      throw new UsageError('sessions end: name one session (SID), or with --user all of a user');
    const path = user === undefined ? adminPath('/v1/sessions', sid!) : `${adminPath('/v1/users', user)}/sessions`;
    const answer = await client.delete<{ ended: number }>(path);
    return print(answer, () => `${answer.ended} ${answer.ended === 1 ? 'session' : 'sessions'} ended\n`);
  },
};

export const sessions: Command = actionCommand({
  name: 'sessions',
  summary: 'List, show and end the sessions of a running server.',
  positionals: [
    { name: 'list|show|end', help: 'default: list', optional: true },
    { name: 'SID', help: 'of show and end: the sid, or its first characters (at least 4)', optional: true },
  ],
  options: {
    user: { type: 'string', placeholder: 'NAME', help: 'list, end: only (and all) sessions of this user' },
    prefix: { type: 'string', placeholder: 'SID', help: 'list: only those whose sid begins so' },
    context: { type: 'string', placeholder: 'PATH', help: 'list: only those of the application mounted there' },
    limit: { type: 'string', placeholder: 'N', help: 'list: how many at most; default 100' },
  },
  actions: { list, show, end },
});

const STOPPED = {
  limit: 'there are more: narrow it with --user or --prefix, or raise --limit',
  time: 'the search took too long and was given up, so there may be more: narrow it with --user or --context',
};

function listText({ sessions: found, isPartial, stoppedBy = 'limit' }: SessionList): string {
  const now = Date.now();
  const hasContexts = found.some(({ context }) => context !== '/');
  const rows = table<SessionEntry>(found, [
    { title: 'SESSION', value: ({ sid }) => sid },
    { title: 'USER', value: ({ user }) => user, width: 24 },
    ...(hasContexts ? [{ title: 'CONTEXT', value: ({ context }: SessionEntry) => context, width: 16 }] : []),
    { title: 'CREATED', value: ({ createdAt }) => time(createdAt) },
    { title: 'IDLE', value: ({ lastAccessedAt }) => span(now - lastAccessedAt), isNumber: true },
    { title: 'ENDS IN', value: ({ expiresAt }) => expiresAt && span(expiresAt - now), isNumber: true },
    { title: 'SIZE', value: ({ attributeBytes }) => byteText(attributeBytes), isNumber: true },
  ]);
  const more = isPartial ? `${STOPPED[stoppedBy]}\n` : '';
  return found.length === 0 ? `no sessions${isPartial ? ' found so far' : ''}\n${more}` : rows + more;
}

function detailText(session: SessionDetail): string {
  const { attributeSizes, absoluteExpiresAt, idleTimeoutMs } = session;
  const about = facts([
    ['session', session.sid],
    ['context', session.context],
    ['user', session.user],
    ['roles', session.roles.join(', ') || undefined],
    ['created', `${time(session.createdAt)} UTC`],
    ['last access', `${time(session.lastAccessedAt)} UTC`],
    ['idle timeout', span(idleTimeoutMs) ?? 'never'],
    ['ends at the latest', absoluteExpiresAt === undefined ? 'never' : `${time(absoluteExpiresAt)} UTC`],
    ['outlives the browser', session.isPersistent ? 'yes' : 'no'],
    ['in memory', session.isInMemory ? 'yes' : 'no'],
    ['WebSockets', session.sockets],
  ]);
  if (attributeSizes.length === 0) return about;
  const attributes = table(attributeSizes, [
    { title: 'ATTRIBUTE', value: ({ name }) => name, width: 60 },
    { title: 'SIZE', value: ({ bytes }) => byteText(bytes), isNumber: true },
  ]);
  return `${about}\n${attributes}`;
}
