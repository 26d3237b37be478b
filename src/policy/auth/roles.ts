import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { type Groups, parseGroupFile } from './group-file.ts';
import type { Principal } from './scheme.ts';
import { WatchedFile } from './watched-file.ts';

/** Where the roles of a scheme's users come from. */
export interface RolesOptions {
  /**
   * Who has which role: `{ user: [alice, 'group:staff'], admin: ['*@example.com'] }`. A member is the name of a user, in
   * which `*` stands for anything, or a group. Default: the groups of a user are their roles.
   */
  roles?: Readonly<Record<string, readonly string[]>>;
  /** A group file as Apache's `AuthGroupFile`: which users are in which groups. Read again when it changes. */
  groups?: string;
  /**
   * With tokens and the like: where the claims name groups, as names of members with dots between them:
   * `realm_access.roles`. A text there is split at blanks and commas. Default: nowhere.
   */
  rolesClaim?: string;
  /** Further roles of a user, by a function. It must be quick, and what it throws gives none. */
  rolesOf?: (user: { readonly name: string; readonly claims: Readonly<Record<string, unknown>> }) => readonly string[];
}

/** What a scheme says of a user whose roles are asked for. */
export interface KnownUser {
  readonly name: string;
  readonly claims?: Readonly<Record<string, unknown>> | undefined;
  /** Groups that the scheme itself knows. */
  readonly groups?: readonly string[] | undefined;
}

export interface RoleSourceOptions {
  /** Of the scheme, for the log. */
  readonly scheme: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** More roles than this are a mistake, or an attack on headers and the store; each is at most 256 characters. */
const MAX_ROLES = 256;
const MAX_ROLE_LENGTH = 256;

const NO_NAMES: ReadonlySet<string> = new Set();

/** The roles of users: by name, by group, by claim, by a function. */
export class RoleSource {
  readonly #options: RolesOptions;
  readonly #scheme: string;
  readonly #logger: Logger;
  readonly #file: WatchedFile<Groups> | undefined;
  readonly #rules: readonly RoleRule[] | undefined;

  constructor(options: RolesOptions, { scheme, clock, logger }: RoleSourceOptions) {
    this.#options = options;
    this.#scheme = scheme;
    this.#logger = logger;
    this.#rules = options.roles && Object.entries(options.roles).map(([role, members]) => ruleOf(role, members));
    if (options.groups !== undefined)
      this.#file = new WatchedFile({
        ...{ file: options.groups, what: `auth.${scheme}: the group file`, clock, logger },
        parse: parseGroupFile,
      });
  }

  /** @throws {HoldfastError} ERR_CONFIG_INVALID when the group file cannot be used. */
  async start(): Promise<void> {
    await this.#file?.start();
  }

  close(): void {
    this.#file?.close();
  }

  /** The group file has changed. @returns ends that. */
  onChange(listener: () => void): () => void {
    return this.#file?.onChange(listener) ?? (() => {});
  }

  /** Each once. Never throws. */
  rolesOf({ name, claims = {}, groups = [] }: KnownUser): readonly string[] {
    const { rolesClaim, rolesOf } = this.#options;
    const inClaims = rolesClaim === undefined ? [] : groupsIn(claims, rolesClaim);
    const named = groups.length + inClaims.length === 0 ? NO_NAMES : new Set([...groups, ...inClaims]);
    const inFile = this.#file?.value.get(name) ?? NO_NAMES;
    const roles: string[] = this.#rules ? [] : [...named, ...inFile];
    for (const { role, takes } of this.#rules ?? []) if (takes(name, named, inFile)) roles.push(role);
    if (rolesOf) roles.push(...this.#asked(rolesOf, name, claims));
    // Of most users nothing is to be left out.
    if (roles.length < 2 && roles.every(isRole)) return roles;
    return [...new Set(roles)].filter(isRole).slice(0, MAX_ROLES);
  }

  #asked(rolesOf: NonNullable<RolesOptions['rolesOf']>, name: string, claims: KnownUser['claims']): readonly string[] {
    try {
      const roles: unknown = rolesOf({ name, claims: claims ?? {} });
      if (Array.isArray(roles) && roles.every(role => typeof role === 'string')) return roles;
      if (!(roles instanceof Promise)) throw new TypeError('"rolesOf" returns a list of texts');
      // Nobody waits for it: what it rejects with must not end the process.
      roles.catch(() => {});
      throw new TypeError('"rolesOf" returns a list of texts at once, not a promise');
    } catch (error) {
      this.#logger.error({ event: 'roles-failed', scheme: this.#scheme, err: error }, 'a function gave no roles');
      return [];
    }
  }
}

function isRole(role: string): boolean {
  return role !== '' && role.length <= MAX_ROLE_LENGTH;
}

/** The same object when nothing has changed. */
export function withRolesOfNow(principal: Principal, roles: RoleSource): Principal {
  const now = roles.rolesOf(principal);
  const isSame = now.length === principal.roles.length && now.every((role, i) => role === principal.roles[i]);
  return isSame ? principal : { ...principal, roles: now };
}

interface RoleRule {
  readonly role: string;
  /** @param inFile Names of groups in a file are without case, and lower-case here. */
  takes(name: string, groups: ReadonlySet<string>, inFile: ReadonlySet<string>): boolean;
}

const GROUP = 'group:';

function ruleOf(role: string, members: readonly string[]): RoleRule {
  const names = new Set<string>();
  const groups: string[] = [];
  const patterns: string[][] = [];
  for (const member of members) {
    if (member.startsWith(GROUP)) groups.push(member.slice(GROUP.length));
    else if (member.includes('*')) patterns.push(member.split('*'));
    else names.add(member);
  }
  return {
    role,
    takes: (name, named, inFile) =>
      names.has(name) ||
      groups.some(group => named.has(group) || inFile.has(group.toLowerCase())) ||
      patterns.some(parts => isLike(name, parts)),
  };
}

/** Has a name these parts, with anything between them? In one pass, whatever the name is. */
function isLike(name: string, parts: readonly string[]): boolean {
  const [first, last] = [parts[0]!, parts.at(-1)!];
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, at);
    if (found === -1) return false;
    at = found + part.length;
  }
  return at <= name.length - last.length;
}

function groupsIn(claims: Readonly<Record<string, unknown>>, path: string): string[] {
  let value: unknown = claims;
  // Names of claims may be URLs.
  for (const name of Object.hasOwn(claims, path) ? [path] : path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return [];
    value = (value as Readonly<Record<string, unknown>>)[name];
  }
  if (typeof value === 'string') return value.split(/[\s,]+/).filter(group => group !== '');
  return Array.isArray(value) ? value.filter(group => typeof group === 'string') : [];
}
