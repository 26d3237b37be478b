import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/**
 * Nanoseconds of CPU time, user and system, that a process and its descendants have used since they started.
 *
 * From the scheduler's count of each thread (`/proc/PID/task/TID/schedstat`), which is exact to the nanosecond, where
 * `/proc/PID/stat` counts in ticks of 10 ms. The time of threads that have ended is not in it: servers under test keep
 * theirs.
 */
export function cpuTimeNs(pid: number): number {
  let sum = 0;
  for (const member of familyOf(pid)) {
    for (const thread of readdirSync(`/proc/${member}/task`)) {
      sum += Number(readFileSync(`/proc/${member}/task/${thread}/schedstat`, 'latin1').split(' ', 1)[0]);
    }
  }
  return sum;
}

/** Bytes of memory of a process and its descendants that are in RAM. Pages they share are counted in each. */
export function residentBytes(pid: number): number {
  let sum = 0;
  for (const member of familyOf(pid)) {
    const kilobytes = /^Rss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${member}/smaps_rollup`, 'latin1'))?.[1];
    sum += Number(kilobytes) * 1024;
  }
  return sum;
}

/** How many connections a process has that came in at this port of 127.0.0.1. */
export function connectionsOf(pid: number, port: number): number {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const inodes = new Set<string>();
  for (const line of readFileSync('/proc/net/tcp', 'latin1').split('\n').slice(1)) {
    const [, address, , state, , , , , , inode] = line.trim().split(/\s+/);
    if (address === local && state === ESTABLISHED) inodes.add(`socket:[${inode}]`);
  }
  return readdirSync(`/proc/${pid}/fd`).filter(fd => inodes.has(targetOf(`/proc/${pid}/fd/${fd}`))).length;
}

const ESTABLISHED = '01';

function targetOf(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return ''; // closed meanwhile
  }
}

function familyOf(pid: number): number[] {
  const family = [pid];
  for (const member of family) {
    for (const thread of readdirSync(`/proc/${member}/task`)) {
      const children = readFileSync(`/proc/${member}/task/${thread}/children`, 'latin1').trim();
      if (children) family.push(...children.split(' ').map(Number));
    }
  }
  return family;
}
