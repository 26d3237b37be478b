import type { ReloadResult } from '../../admin/shapes.ts';
import { print } from '../actions.ts';
import { AdminClient, adminOptions } from '../admin-client.ts';
import type { Command } from '../command.ts';

export const reload: Command = {
  summary: 'Let a running server read its configuration again. One that is wrong changes nothing.',
  options: adminOptions,
  async run(options) {
    const client = await AdminClient.find(options);
    const result = await client.post<ReloadResult>('/v1/reload');
    print(options, result, () => textOf(result));
    return result.ok ? 0 : 1;
  },
};

function textOf({ ok, errors = [], changed = [], needsRestart = [] }: ReloadResult): string {
  const restart = needsRestart.map(key => `restart the server for ${key}`);
  const lines = ok ? [...changed, ...restart] : errors;
  const [first, ...rest] = ok
    ? [
        lines.length === 0
          ? 'the configuration is in force; nothing has changed'
          : 'the configuration is in force; changed:',
      ]
    : ['the configuration was refused, and the old one is in force:'];
  return [first, ...rest, ...lines.map(line => `  ${line}`)].map(line => `${line}\n`).join('');
}
