import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import { parseGroupFile } from '../../../src/policy/auth/group-file.ts';
import { type KnownUser, RoleSource, type RolesOptions } from '../../../src/policy/auth/roles.ts';
import { Lines } from '../../server/wires.ts';

function rolesOf(options: RolesOptions, user: KnownUser, logger = silentLogger): readonly string[] {
  return new RoleSource(options, { scheme: 'test', clock: systemClock, logger }).rolesOf(user);
}

describe('a group file, as Apache reads it', () => {
  const groupsOf = (text: string, user: string) => [...(parseGroupFile(text).get(user) ?? [])];

  test.each([
    ['members are separated by blanks and tabs', 'staff: alice\tbob', 'bob', ['staff']],
    ['a comma is part of a name', 'staff: alice,bob', 'alice,bob', ['staff']],
    ['quotes round a member are taken off', 'staff: "alice smith" \'bob\'', 'alice smith', ['staff']],
    ['names of groups are without case', 'Staff: alice\nSTAFF: bob', 'bob', ['staff']],
    ['a blank before the colon and in front of the line is nothing', '  staff : alice', 'alice', ['staff']],
    ['a group that is there twice has the members of both', 'a: x\nb: x\na: y', 'x', ['a', 'b']],
    ['a backslash at the end continues the line', 'staff: alice \\\nbob', 'bob', ['staff']],
    ['a hash begins a comment at the start of a line only', '# staff: alice\nstaff: #alice', '#alice', ['staff']],
    ['CRLF ends a line', 'staff: alice\r\nops: alice\r\n', 'alice', ['staff', 'ops']],
  ])('%s', (_, text, user, groups) => {
    expect(groupsOf(text, user)).toEqual(groups);
  });

  test.each([
    ['a line without a colon', 'ops: a\nstaff alice', 'line 2'],
    ['a line without a group', ': alice', 'line 1'],
    ['a group of two words', '\n\nmy staff: alice', 'line 3'],
  ])('%s is an error that names it', (_, text, line) => {
    expect(() => parseGroupFile(text)).toThrow(`${line} names no group`);
  });
});

describe('the roles of a user', () => {
  test('are their groups, where nothing else is said', () => {
    expect(rolesOf({}, { name: 'alice', groups: ['b', 'a', 'b'] })).toEqual(['b', 'a']);
  });

  test.each<[string, string[], string, boolean]>([
    ['a name', ['alice'], 'alice', true],
    ['a name in another case', ['Alice'], 'alice', false],
    ['a beginning', ['svc-*'], 'svc-mail', true],
    ['an end', ['*@example.com'], 'eve@example.com.evil', false],
    ['beginning, middle and end', ['CN=*,OU=ops,*O=x'], 'CN=a,OU=ops,L=y,O=x', true],
    ['parts that overlap', ['ab*ba'], 'aba', false],
    ['everybody', ['*'], 'anybody at all', true],
    ['a dot, which stands for itself', ['a.*'], 'axb', false],
  ])('come from %s', (_, members, name, isIn) => {
    expect(rolesOf({ roles: { user: members } }, { name })).toEqual(isIn ? ['user'] : []);
  });

  test.each<[string, string, unknown, string[]]>([
    ['a list', 'roles', ['a', 'b', 7], ['a', 'b']],
    ['a text with blanks', 'scope', 'read write', ['read', 'write']],
    ['a member of a member', 'realm_access.roles', undefined, ['admin']],
    ['a name that is a URL', 'https://example.com/roles', ['x'], ['x']],
    ['nothing', 'missing.roles', undefined, []],
  ])('come from a claim: %s', (_, rolesClaim, value, roles) => {
    const claims = { realm_access: { roles: ['admin'] }, ...(value !== undefined && { [rolesClaim]: value }) };
    expect(rolesOf({ rolesClaim }, { name: 'alice', claims })).toEqual(roles);
  });

  test('come from what claims inherit: not at all', () => {
    expect(rolesOf({ rolesClaim: 'constructor.name' }, { name: 'alice', claims: {} })).toEqual([]);
  });

  test('by groups need the very name of a claim, and any case of one in a file', () => {
    const options = { rolesClaim: 'groups', roles: { user: ['group:Staff'] } };
    expect(rolesOf(options, { name: 'alice', claims: { groups: ['staff'] } })).toEqual([]);
    expect(rolesOf(options, { name: 'alice', claims: { groups: ['Staff'] } })).toEqual(['user']);
  });

  test('by a function are added, and one that throws or returns something else gives none and is logged', () => {
    const log = new Lines();
    const roles = { user: ['alice'] };
    expect(rolesOf({ roles, rolesOf: ({ name }) => [`is-${name}`] }, { name: 'alice' }, log)).toEqual([
      'user',
      'is-alice',
    ]);
    expect(rolesOf({ roles, rolesOf: (() => 'admin') as never }, { name: 'alice' }, log)).toEqual(['user']);
    expect(
      rolesOf(
        {
          roles,
          rolesOf: () => {
            throw new Error('no');
          },
        },
        { name: 'alice' },
        log,
      ),
    ).toEqual(['user']);
    expect(log.all.map(({ fields }) => fields.event)).toEqual(['roles-failed', 'roles-failed']);
  });

  test('by a function that answers by a promise are none, and one that rejects ends no process', async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown) => void unhandled.push(error);
    process.on('unhandledRejection', note);
    const log = new Lines();
    const later = async () => {
      throw new Error('the directory is away');
    };
    expect(rolesOf({ roles: { user: ['alice'] }, rolesOf: later as never }, { name: 'alice' }, log)).toEqual(['user']);
    await new Promise(setImmediate);
    process.off('unhandledRejection', note);
    expect(unhandled).toEqual([]);
    expect(String(log.all[0]!.fields.err)).toContain('not a promise');
  });

  test('are at most 256, of 256 characters', () => {
    const groups = Array.from({ length: 1_000 }, (_, i) => `g${i}`);
    expect(rolesOf({}, { name: 'alice', groups: ['x'.repeat(257), ...groups] })).toEqual(groups.slice(0, 256));
  });
});
