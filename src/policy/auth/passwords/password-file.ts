import { shellWord } from '../../../base/shell-word.ts';
import { CONTROL, LONGEST_USER_NAME } from '../../../http/basic-credentials.ts';
import { doubtOf, isLocked, type PasswordHash, readPasswordHash } from './password-hash.ts';

/** Something about a line of a password file. Never has anything of a hash. */
export interface LineProblem {
  readonly line: number;
  readonly message: string;
  /** Of a line that locks an account: what it means while a server runs. */
  readonly effect?: string;
}

/** What is allowed and doubtful: a second line of a user, a hash that is guessed too fast, or a file without users. */
export interface DoubtfulLine extends LineProblem {
  readonly kind: 'user-twice' | 'weak-password-hash' | 'no-users';
}

/** What a password file says. */
export interface PasswordFile {
  readonly users: ReadonlyMap<string, PasswordHash>;
  /** Why it cannot be used; empty when it can. */
  readonly faults: readonly LineProblem[];
  /** What is allowed and doubtful. */
  readonly warnings: readonly DoubtfulLine[];
}

/**
 * Reads a file as `htpasswd` writes it, by the rules of Apache: blanks around a line are nothing, lines that begin with
 * `#` are comments, what follows a second colon is ignored, a backslash at the end joins the next line, and of several
 * lines of a user the first counts.
 *
 * Stricter than Apache, which answers 401 for all of these: a hash of a form that is not verified, no colon, blanks
 * around the colon, and a name that is empty, longer than 256 characters, or has control characters are faults. So is
 * text that is not UTF-8.
 *
 * @param name Of the file, for the remedy.
 */
export function readPasswordFile(text: string, name: string): PasswordFile {
  const users = new Map<string, PasswordHash>();
  const firstLines = new Map<string, number>();
  const faults: LineProblem[] = [];
  const warnings: DoubtfulLine[] = [];
  for (const { line, content } of linesOf(text)) {
    const [user = '', hashText] = content.split(':', 2);
    const fault = faultOfName(user, hashText);
    if (fault !== undefined) {
      faults.push({ line, message: fault });
      continue;
    }
    const first = firstLines.get(user);
    if (first !== undefined) {
      const message = `user ${quoted(user)} has a line before, line ${first}, which counts; remove one of the two`;
      warnings.push({ kind: 'user-twice', line, message });
      continue;
    }
    firstLines.set(user, line);
    const hash = readPasswordHash(hashText!);
    const about = `the password of user ${quoted(user)}`;
    const remedy = `hash it anew: htpasswd -B ${name} ${shellWord(user.slice(0, 60))}`;
    if (typeof hash === 'string') {
      const fault = { line, message: `${about} ${hash}, which is not verified here; ${remedy}` };
      const effect = `${about} ${hash}: nobody signs in as this user; remove the line, since no start takes it`;
      faults.push(isLocked(hashText!) ? { ...fault, effect } : fault);
      continue;
    }
    users.set(user, hash);
    const doubt = doubtOf(hash);
    if (doubt !== undefined)
      warnings.push({ kind: 'weak-password-hash', line, message: `${about} ${doubt}; ${remedy}` });
  }
  if (users.size === 0 && faults.length === 0)
    warnings.push({ kind: 'no-users', line: 1, message: `there is no user; add one: htpasswd -B ${name} USER` });
  return { users, faults, warnings };
}

/** Faults as one text, for an error: the first ones, and how many more there are. */
export function textOf(faults: readonly LineProblem[]): string {
  const shown = faults.slice(0, MOST_SHOWN).map(({ line, message }) => `line ${line}: ${message}`);
  const rest = faults.length - shown.length;
  return [...shown, ...(rest > 0 ? [`and ${rest} more`] : [])].join('; ');
}

const MOST_SHOWN = 5;

/** What is read as a line, with the number of its first one; no empty ones and no comments. */
function* linesOf(text: string): Generator<{ line: number; content: string }> {
  const lines = text.replace(/^\ufeff/, '').split('\n');
  for (let index = 0; index < lines.length; index++) {
    const line = index + 1;
    let content = withoutReturn(lines[index]!);
    while (content.endsWith('\\') && index + 1 < lines.length)
      content = content.slice(0, -1) + withoutReturn(lines[++index]!);
    content = trimmed(content);
    if (content !== '' && !content.startsWith('#')) yield { line, content };
  }
}

function withoutReturn(line: string): string {
  return line.endsWith('\r') ? line.slice(0, -1) : line;
}

/** Without what `isspace()` takes for blank. `trim` would take no-break spaces, too, which can be of a name. */
function trimmed(text: string): string {
  return text.replace(/^[ \t\v\f\r]+/, '').replace(/(?<![ \t\v\f\r])[ \t\v\f\r]+$/, '');
}

function faultOfName(user: string, hash: string | undefined): string | undefined {
  // Such a line may be a password: nothing of it is shown.
  if (hash === undefined) return 'there is no colon between user and password; a line is USER:HASH';
  if (user === '') return 'there is no user before the colon; a line is USER:HASH';
  if (user.includes('\ufffd')) return 'the name of the user is not UTF-8; save the file as UTF-8';
  if (CONTROL.test(user)) return `the name of user ${quoted(user)} has a control character, which no client can send`;
  if ([...user].length > LONGEST_USER_NAME)
    return `the name of user ${quoted(user)} is longer than ${LONGEST_USER_NAME} characters`;
  if (/[ \t]$/.test(user) || /^[ \t]/.test(hash))
    return `user ${quoted(user)} has a blank beside the colon, which would be of the name or the hash; a line is USER:HASH`;
  return undefined;
}

function quoted(user: string): string {
  return JSON.stringify(user.length > 60 ? `${user.slice(0, 60)}…` : user);
}
