import type { LogLevels } from '../../admin/shapes.ts';
import { jsonLine } from '../../server/log/escape.ts';
import { standardOutput } from '../../server/log/standard-output.ts';
import { type Action, actionCommand, textOption } from '../actions.ts';
import type { Command } from '../command.ts';
import { facts } from '../table.ts';

const follow: Action = {
  options: ['follow', 'level', 'part', 'access'],
  async run({ client, options }) {
    const ended = new AbortController();
    const end = () => ended.abort();
    process.once('SIGINT', end).once('SIGTERM', end);
    const query = {
      level: textOption(options.level),
      part: textOption(options.part),
      access: options.access ? 'true' : undefined,
    };
    const print = (line: object) => standardOutput().write(jsonLine(line));
    await client.follow('/v1/logs', query, print, ended.signal);
    return 0;
  },
};

const level: Action = {
  takes: ['PART', 'LEVEL'],
  async run({ client, words, print }) {
    const [part, to] = words.length === 1 ? [undefined, words[0]] : words;
    const levels =
      to === undefined
        ? await client.get<LogLevels>('/v1/log/level')
        : await client.post<LogLevels>('/v1/log/level', { level: to, ...(part !== undefined && { part }) });
    return print(levels, () => facts([['all', levels.level], ...Object.entries(levels.parts)]));
  },
};

const reopen: Action = {
  async run({ client, print }) {
    return print(await client.post<object>('/v1/log/reopen'), () => 'log files were begun anew\n');
  },
};

export const logs: Command = actionCommand({
  name: 'logs',
  summary: 'Follow the log of a running server, change its level, and begin its files anew.',
  positionals: [
    { name: 'follow|level|reopen', help: 'default: follow', optional: true },
    { name: 'PART', help: 'of level: the part whose level is changed; left out: of all', optional: true },
    { name: 'LEVEL', help: 'of level: debug, info, warn, error or silent; left out: print the levels', optional: true },
  ],
  options: {
    follow: { type: 'boolean', short: 'f', help: 'follow: lines as they are written, until Ctrl+C (the default)' },
    level: {
      type: 'string',
      placeholder: 'LEVEL',
      help: 'follow: lines of this level and above, also below that of the log',
    },
    part: { type: 'string', placeholder: 'PART', help: 'follow: only lines of this part' },
    access: { type: 'boolean', help: 'follow: lines of the access log as well' },
  },
  actions: { follow, level, reopen },
});
