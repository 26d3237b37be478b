import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/parse.ts';
import { toProblems } from '../../src/config/to-problems.ts';
import { checkAllOrNone } from '../../src/server/assembly/all-or-none.ts';
import { problemsOf } from './problems-of.ts';

const fetch = () => new Response();
const auth = { login: { type: 'session', roles: { user: ['alice'], admin: ['group:admins'] } } };
const route = (policy: object, more: object = {}) => ({ auth, routes: [{ path: '/x', fetch, policy, ...more }] });

describe('a configuration with authentication', () => {
  test('that is right has no problem', () => {
    expect(problemsOf(route({ auth: ['login'], roles: ['user', 'valid-user'] }))).toEqual([]);
    expect(problemsOf({ ...route({ roles: ['user'] }), policy: { auth: 'login' } })).toEqual([]);
    expect(problemsOf(route({ auth: false }))).toEqual([]);
  });

  test.each<[string, object, string]>([
    [
      'a scheme that is not there',
      route({ auth: 'logn' }),
      'routes[0].policy.auth: route "/x": the scheme "logn" is not defined; did you mean "login"?',
    ],
    [
      'one of several',
      route({ auth: ['login', 'other'] }),
      'routes[0].policy.auth[1]: route "/x": the scheme "other" is not defined; add it',
    ],
    [
      'one of the server',
      { auth, policy: { auth: 'x' }, routes: [] },
      'policy.auth: the server: the scheme "x" is not',
    ],
    [
      'roles without a scheme',
      route({ roles: ['user'] }),
      'routes[0].policy.roles: route "/x": nobody has roles without',
    ],
    [
      'a role that nobody can have',
      route({ auth: 'login', roles: ['user', 'admn'] }),
      'routes[0].policy.roles[1]: route "/x": no user can have the role "admn"; did you mean "admin"?',
    ],
    [
      'one that the route gets from where it lies',
      { ...route({ auth: 'login' }), policy: { auth: 'login', roles: ['boss'] } },
      'routes[0].policy.auth: route "/x": no user can have the role "boss"',
    ],
    [
      'a login without a session to keep it',
      route({ auth: 'login' }, { session: 'none' }),
      'routes[0].session: route "/x": a session keeps who has signed in, and there is none; remove "session: none"',
    ],
    [
      'the same on a server without sessions',
      { ...route({ auth: 'login' }), session: false },
      'routes[0]: route "/x": a session keeps who has signed in, and there is none; remove "session: false"',
    ],
    ['no type', { auth: { a: {} }, routes: [] }, 'auth.a: has no type; write one of '],
    [
      'an unknown type',
      { auth: { a: { type: 'sesion' } }, routes: [] },
      'auth.a.type: "sesion" is not a type; did you mean "session"?',
    ],
    [
      'an unknown key',
      { auth: { a: { type: 'session', role: {} } }, routes: [] },
      'auth.a.role: unknown key "role" in auth of the type "session"; did you mean "roles"?',
    ],
    ['an empty list of schemes', route({ auth: [] }), 'routes[0].policy.auth: is empty; write false'],
    [
      'a page of another scheme',
      { auth: { a: { type: 'session', loginPage: 'javascript:alert(1)' } }, routes: [] },
      'auth.a.loginPage: "javascript:alert(1)" is not a page',
    ],
    [
      'a page that leads elsewhere',
      { auth: { a: { type: 'session', loginPage: '//evil.example' } }, routes: [] },
      'auth.a.loginPage: "//evil.example" is not a page',
    ],
    [
      'a group without a name',
      { auth: { a: { type: 'session', roles: { x: ['group:'] } } }, routes: [] },
      '"group:" names no group',
    ],
    [
      'a role without members',
      { auth: { a: { type: 'session', roles: { x: [] } } }, routes: [] },
      'auth.a.roles.x: is empty',
    ],
    [
      'a scheme of a strange name',
      { auth: JSON.parse('{"__proto__": {"type": "session"}}'), routes: [] },
      '"__proto__" cannot',
    ],
  ])('and %s is refused', (_, config, problem) => {
    expect(problemsOf(config).join('\n')).toContain(problem);
  });
});

describe('a constraint', () => {
  const withConstraints = (...constraints: object[]) => ({ auth, constraints, routes: [{ path: '/*', fetch }] });

  test.each<[string, object, string]>([
    [
      'that asks for nothing',
      withConstraints({ paths: ['/a'] }),
      'constraints[0]: the constraint on /a asks for nothing',
    ],
    [
      'with roles of nobody',
      withConstraints({ paths: ['/a'], roles: ['user'] }),
      'constraints[0].roles: the constraint on /a: nobody has roles without authentication',
    ],
    [
      'with an unknown role',
      withConstraints({ paths: ['/a'], auth: 'login', roles: ['boss'] }),
      'constraints[0].roles[0]: the constraint on /a: no user can have the role "boss"',
    ],
    [
      'for what another one is for',
      withConstraints({ paths: ['/a/:x'], auth: 'login' }, { paths: ['/b', '/a/:y'], auth: 'login' }),
      'constraints[1]: the constraint on /b, /a/:y: there is another one for /a/:; make them one',
    ],
    [
      'that lets be what it does not name',
      withConstraints({ paths: ['/a'], auth: 'login', otherMethods: 'allow' }),
      'constraints[0].otherMethods: the constraint on /a is for every method',
    ],
    [
      'for the end of a path',
      withConstraints({ paths: ['*.jsp'], auth: 'login' }),
      'constraints[0].paths[0]: "*.jsp" is not a path',
    ],
  ])('%s is refused', (_, config, problem) => {
    expect(problemsOf(config).join('\n')).toContain(problem);
  });
});

describe('protect all or none', () => {
  const byFunction = { key: { type: 'function', authenticate: () => undefined }, login: { type: 'session' } };
  const warningsOf = (routes: object[], more: object = {}) =>
    toProblems(checkAllOrNone(parseConfig({ auth: byFunction, routes, ...more })), () => ({}))
      .filter(({ message }) => message.includes('Protect all or none'))
      .map(({ path }) => path);

  test('a mix on one session context is a warning', () => {
    const routes = [
      { path: '/a', fetch, policy: { auth: 'key' } },
      { path: '/b', fetch },
    ];
    expect(warningsOf(routes)).toEqual(['routes[1].policy']);
    expect(warningsOf([routes[1]!], { policy: { auth: 'key' } })).toEqual([]);
  });

  test.each<[string, object[]]>([
    [
      'the open route has no sessions',
      [
        { path: '/a', fetch, policy: { auth: 'key' } },
        { path: '/b', fetch, session: 'none' },
      ],
    ],
    [
      'it serves files',
      [
        { path: '/a', fetch, policy: { auth: 'key' } },
        { path: '/b/*', files: '.' },
      ],
    ],
    [
      'the login is kept in the session',
      [
        { path: '/a', fetch, policy: { auth: 'login' } },
        { path: '/b', fetch },
      ],
    ],
    [
      'it has sessions of its own',
      [
        { path: '/a', fetch, policy: { auth: 'key' } },
        { mount: '/m', application: { session: {}, routes: [{ path: '/b', fetch }] } },
      ],
    ],
  ])('it is none where %s', (_, routes) => {
    expect(warningsOf(routes)).toEqual([]);
  });
});
