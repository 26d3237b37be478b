import { existsSync } from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { HoldfastError } from '../../base/errors.ts';
import { nameOf, type Place } from './place.ts';

/** Of `/proc/net/tcp`: the state of a socket that listens. */
const LISTENING = '0A';

/** Why nobody can listen there, and what to do about it. */
export async function refusedPlace(place: Place, cause: NodeJS.ErrnoException): Promise<HoldfastError> {
  return new HoldfastError('ERR_SERVER_LISTEN', `cannot listen on ${nameOf(place)}: ${await reasonOf(place, cause)}`, {
    cause,
  });
}

async function reasonOf(place: Place, cause: NodeJS.ErrnoException): Promise<string> {
  if (place.kind === 'inherited')
    return 'it is not a socket that can listen; look at the unit or program that opens it';
  const reason = place.kind === 'unix' ? reasonOfFile(place, cause) : await reasonOfPort(place, cause);
  return reason ?? cause.message;
}

function reasonOfFile(
  { path, access: { gid } }: SocketPlace,
  { code, syscall }: NodeJS.ErrnoException,
): string | undefined {
  if (code === 'EADDRINUSE') return 'another program listens there; stop it, or take another path';
  if (code === 'ENOTSOCK') return 'the file there is not a socket; move it away, or take another path';
  const folder = dirname(path);
  // Node says EACCES for it as well.
  if (!existsSync(folder)) return `there is no folder ${folder}; make it, or let systemd do it (RuntimeDirectory=)`;
  if (syscall === 'chown')
    return `this user may not give it to the group ${gid}; put the user into it (usermod -aG), or leave "group" out`;
  if (code === 'EACCES' || code === 'EROFS') return `this user may not write in ${folder}; take a folder of its own`;
  // Of a folder with the sticky bit, such as /tmp.
  if (code === 'EPERM') return 'the file there is of another user, and left behind; remove it, or take another path';
  return undefined;
}

type SocketPlace = Extract<Place, { kind: 'unix' }>;
type Port = Extract<Place, { kind: 'tcp' }>;

async function reasonOfPort(
  { port, host, reusePort }: Port,
  { code }: NodeJS.ErrnoException,
): Promise<string | undefined> {
  if (code === 'EADDRINUSE') {
    const holder = await holderOf(port);
    const both = reusePort ? '; both need "reusePort" and the same user' : '';
    if (holder?.startsWith(`process ${process.pid} `))
      return `${holder} listens there, which is this one: a reload cannot move an open port to another "host", so restart the server, or choose another port${both}`;
    return `${holder ?? 'another program'} listens there; stop it or choose another port${both}`;
  }
  if (code === 'EACCES')
    return (
      'this user may not open ports below 1024; give the service the right (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), ' +
      `let systemd open the port ("activation"), lower the limit of the machine (sysctl net.ipv4.ip_unprivileged_port_start=${port}), or choose another port`
    );
  if (code === 'EADDRNOTAVAIL')
    return `${host} is not an address of this machine (see "ip address"); correct it, or leave "host" out for all addresses`;
  return undefined;
}

/** The process that listens on a port. Undefined where the system does not say: it is another user's, or not Linux. */
export async function holderOf(port: number): Promise<string | undefined> {
  const sockets = new Set([...(await listeners('tcp', port)), ...(await listeners('tcp6', port))]);
  if (sockets.size === 0) return undefined;
  const pids = (await readdir('/proc').catch(() => [])).filter(name => /^\d+$/.test(name));
  for (const pid of pids) {
    for (const descriptor of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const target = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => '');
      if (!sockets.has(target)) continue;
      const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
      // A process gives itself its name.
      return `process ${pid} (${name.replace(/[^\w .:/-]/g, '') || 'without a name'})`;
    }
  }
  return undefined;
}

/** What descriptors of sockets that listen on the port link to. */
async function listeners(table: 'tcp' | 'tcp6', port: number): Promise<string[]> {
  const text = await readFile(`/proc/net/${table}`, 'utf8').catch(() => '');
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return text
    .split('\n')
    .map(line => line.trim().split(/\s+/))
    .filter(([, local = '', , state]) => state === LISTENING && local.endsWith(suffix))
    .map(columns => `socket:[${columns[9]}]`);
}
