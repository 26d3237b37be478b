/** Which groups each user is in. */
export type Groups = ReadonlyMap<string, ReadonlySet<string>>;

/** Far more than any file has; what is more is a mistake. */
const MAX_LINES = 100_000;

/**
 * Reads a group file as Apache's `AuthGroupFile`: `group: member member`.
 *
 * Names of groups are read without case, as Apache does, and are lower-case here. Members are separated by blanks and
 * tabs alone; quotes round one are taken off. A group that is there twice has the members of both. `\` at the end of a
 * line continues it; `#` begins a comment at the start of a line only.
 *
 * Where Apache ignores a line without a colon, this is an error: its members would silently be in no group.
 *
 * @throws {Error} that names the line.
 */
export function parseGroupFile(text: string): Groups {
  const groupsOf = new Map<string, Set<string>>();
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  if (lines.length > MAX_LINES) throw new Error(`it has more than ${MAX_LINES} lines`);
  for (let number = 1; number <= lines.length; number++) {
    const first = number;
    let line = lines[number - 1]!;
    while (line.endsWith('\\') && number < lines.length) line = line.slice(0, -1) + lines[number++]!;
    line = line.trim();
    if (line === '' || line.startsWith('#')) continue;
    const colon = line.indexOf(':');
    const group = line.slice(0, Math.max(0, colon)).trim().toLowerCase();
    if (group === '' || /[ \t]/.test(group))
      throw new Error(`line ${first} names no group; write "group: member member", members separated by blanks`);
    for (const member of membersIn(line.slice(colon + 1))) {
      const groups = groupsOf.get(member);
      if (groups) groups.add(group);
      else groupsOf.set(member, new Set([group]));
    }
  }
  return groupsOf;
}

function* membersIn(list: string): Generator<string> {
  for (const [, double, single, plain] of list.matchAll(/"([^"]*)"|'([^']*)'|([^ \t]+)/g)) {
    const member = double ?? single ?? plain!;
    if (member !== '') yield member;
  }
}
