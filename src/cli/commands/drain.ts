import type { Status } from '../../admin/shapes.ts';
import { isHoldfastError } from '../../base/errors.ts';
import { print, textOption } from '../actions.ts';
import { AdminClient, adminOptions } from '../admin-client.ts';
import type { Command } from '../command.ts';

const LOOK_EVERY_MS = 200;

export const drain: Command = {
  summary: 'Stop a running server gracefully, as SIGTERM does: its sockets are closed, its requests finished.',
  options: {
    over: { type: 'string', placeholder: 'TIME', help: 'how long it may take; default: as its configuration says' },
    wait: { type: 'boolean', help: 'end when the server has ended' },
    ...adminOptions,
  },
  async run(options) {
    const client = await AdminClient.find(options);
    const over = textOption(options.over);
    const answer = await client.post<object>('/v1/drain', { ...(over !== undefined && { over }) });
    if (options.wait) await hasEnded(client);
    return print(options, answer, () => (options.wait ? 'the server has ended\n' : 'the server drains\n'));
  },
};

async function hasEnded(client: AdminClient): Promise<void> {
  for (;;) {
    try {
      await client.get<Status>('/v1/status');
    } catch (error) {
      if (isHoldfastError(error) && error.code === 'ERR_ADMIN_UNREACHABLE') return;
      throw error;
    }
    await new Promise(resolve => setTimeout(resolve, LOOK_EVERY_MS));
  }
}
