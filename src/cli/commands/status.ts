import type { Status } from '../../admin/shapes.ts';
import { jsonLine } from '../../server/log/escape.ts';
import { standardOutput } from '../../server/log/standard-output.ts';
import { AdminClient, adminOptions } from '../admin-client.ts';
import type { Command } from '../command.ts';
import { byteText, facts, span, table, time } from '../table.ts';

export const status: Command = {
  summary: 'Say what a running server does.',
  options: adminOptions,
  async run(options) {
    const client = await AdminClient.find(options);
    const found = await client.get<Status>('/v1/status');
    standardOutput().write(options.json ? jsonLine(found) : textOf(found));
    return 0;
  },
};

function textOf(status: Status): string {
  const { counts, memory, lastReload, listeners, workers } = status;
  const urls = (serves: string) => listeners.filter(one => one.serves === serves).map(({ url }) => url);
  const list = (serves: string) => urls(serves).join(' ') || undefined;
  return (
    facts([
      ['state', `${status.state}${status.isReady ? ', ready' : ', not ready'}`],
      ['version', `holdfast ${status.version}, Node ${status.node}`],
      ['process', `${status.pid}, since ${time(status.startedAt)} UTC (${span(status.uptimeMs)})`],
      ['configuration', status.configFile],
      ['data folder', status.dataFolder],
      ['listens on', list('clients')],
      ['for backends', list('backends')],
      ['for administrators', list('administrators')],
      ['WebSockets', `${counts.sockets} open, ${counts.handshakes} being opened`],
      ['sessions', `${counts.sessionsInMemory} in memory, ${counts.sessionsInUse} in use`],
      ['since the start', `${counts.sessionsCreated} sessions made, ${counts.sessionsEnded} ended`],
      ['bans', counts.bans],
      ['memory', `${byteText(memory.residentBytes)}, of which ${byteText(memory.heapUsedBytes)} heap in use`],
      ['last reload', lastReload && `${time(lastReload.at)} UTC: ${lastReload.ok ? 'done' : 'refused'}`],
    ]) + (workers.length === 0 ? '' : `\n${workerTable(workers)}`)
  );
}

function workerTable(workers: Status['workers']): string {
  return table(workers, [
    { title: 'WORKER', value: ({ worker }) => worker, isNumber: true },
    { title: 'PROCESS', value: ({ pid }) => pid, isNumber: true },
    { title: 'STATE', value: ({ state }) => state },
    { title: 'SINCE', value: ({ startedAt }) => time(startedAt) },
    { title: 'SOCKETS', value: ({ counts }) => counts.sockets, isNumber: true },
    { title: 'MEMORY', value: ({ memory }) => byteText(memory.residentBytes), isNumber: true },
  ]);
}
