import { readFileSync } from 'node:fs';

/**
 * The number of a group of this machine, by its name or number. Undefined when `/etc/group` has no such name: groups of a
 * directory service are known by their number only.
 */
export function gidOf(group: string | number): number | undefined {
  if (typeof group === 'number') return group;
  const lines = readGroups().map(line => line.split(':'));
  const gid = lines.find(([name]) => name === group)?.[2] ?? group;
  return /^\d{1,10}$/.test(gid) ? Number(gid) : undefined;
}

/** What is wrong with a name that has no number. */
export function noSuchGroup(group: string | number): string {
  return `/etc/group has no group "${group}"; correct it, or write its number (see "getent group")`;
}

/** May this process give a file to a group? */
export function mayGiveTo(gid: number): boolean {
  return process.geteuid?.() === 0 || process.getegid?.() === gid || (process.getgroups?.().includes(gid) ?? false);
}

function readGroups(): string[] {
  try {
    return readFileSync('/etc/group', 'utf8').split('\n');
  } catch {
    return [];
  }
}
