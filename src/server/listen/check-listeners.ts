import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Config } from '../../config/config.ts';
import type { Doubt } from '../../config/warning-codes.ts';
import { gidOf, mayGiveTo, noSuchGroup } from './group.ts';

const FIRST_FREE_PORT = 1024;
/** Of `CapEff`: CAP_NET_BIND_SERVICE (capabilities(7)). */
const BIND_SERVICE = 1n << 10n;

/**
 * What would make a start fail on this machine and as this user: ports that only root and those with the right have,
 * addresses that are those of other machines, and groups that are not there. Warnings, since a configuration is often checked elsewhere. No port that is
 * configured is opened.
 *
 * @param mayHave May this user listen on a port? For tests.
 */
export async function checkListeners(
  { listen = [{ port: 8080 }], internal, admin }: Config,
  mayHave: (port: number) => Promise<boolean> = mayHavePort,
): Promise<Doubt[]> {
  const doubts: Doubt[] = [];
  const places = [
    ...listen.map(({ port, host }, index) => ({ port, host, at: ['listen', index] as PropertyKey[] })),
    ...(internal ? [{ port: internal.port, host: internal.host, at: ['internal'] as PropertyKey[] }] : []),
    ...(admin && admin.port !== undefined
      ? [{ port: admin.port, host: admin.host, at: ['admin'] as PropertyKey[] }]
      : []),
  ];
  for (const { port, host, at } of places) {
    if (port !== undefined && !(await mayHave(port)))
      doubts.push({
        code: 'privileged-port',
        path: [...at, 'port'],
        message: `this user may not listen on port ${port}: give the service CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), lower net.ipv4.ip_unprivileged_port_start, or take a port from ${FIRST_FREE_PORT} on`,
      });
    const problem = host === undefined ? undefined : await addressProblem(host);
    if (problem !== undefined) doubts.push({ code: 'address-not-here', path: [...at, 'host'], message: problem });
  }
  for (const [index, { group }] of listen.entries()) {
    const problem = group === undefined ? undefined : groupProblem(group);
    if (problem !== undefined)
      doubts.push({ code: 'group-not-here', path: ['listen', index, 'group'], message: problem });
  }
  return doubts;
}

function groupProblem(group: string | number): string | undefined {
  const gid = gidOf(group);
  if (gid === undefined) return noSuchGroup(group);
  return mayGiveTo(gid) ? undefined : `this user is not in the group ${group}: put it into it (usermod -aG)`;
}

/** Only Linux says who may have which port. */
async function mayHavePort(port: number): Promise<boolean> {
  if (port === 0 || port >= FIRST_FREE_PORT) return true;
  try {
    const first = Number(await readFile('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));
    const status = await readFile('/proc/self/status', 'utf8');
    const rights = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)![1]}`);
    return port >= first || (rights & BIND_SERVICE) !== 0n;
  } catch {
    return true;
  }
}

/** Tried with a port that the system chooses, and let go of at once. */
function addressProblem(host: string): Promise<string | undefined> {
  return new Promise((resolve: (problem: string | undefined) => void) => {
    const server = createServer();
    server.once('error', ({ code, message }: NodeJS.ErrnoException) => {
      if (code === 'EADDRNOTAVAIL') resolve(`${host} is not an address of this machine; correct it, or leave it out`);
      else if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') resolve(`the name ${host} has no address; write one`);
      else if (code === 'EINVAL') resolve(`${host} needs the zone of its network, as in fe80::1%eth0: ${message}`);
      else resolve(undefined);
    });
    server.listen({ host, port: 0 }, () => server.close(() => resolve(undefined)));
  });
}
