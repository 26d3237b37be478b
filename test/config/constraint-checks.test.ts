import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/parse.ts';
import { toProblems } from '../../src/config/to-problems.ts';
import { checkAllOrNone } from '../../src/server/assembly/all-or-none.ts';
import { checkConstraints } from '../../src/server/assembly/check-constraints.ts';
import { problemsOf } from './problems-of.ts';

const fetch = () => new Response();
const scheme = (...roles: string[]) => ({
  type: 'function',
  authenticate: () => undefined,
  ...(roles.length > 0 && { roles: Object.fromEntries(roles.map(role => [role, ['*']])) }),
});
const auth = { weak: scheme('user'), strong: scheme('user', 'admin'), free: scheme(), login: { type: 'session' } };

const textOf = ({ path, message }: { path: string; message: string }) => `${path}: ${message}`;
const errorsOf = (config: object) => problemsOf({ auth, ...config });
const warningsOf = (config: object) =>
  toProblems(checkConstraints(parseConfig({ auth, ...config })), () => ({})).map(textOf);

describe('a constraint with schemes that its route does not take', () => {
  test('is a warning that names both', () => {
    expect(
      warningsOf({
        constraints: [{ paths: ['/app/open/*'], auth: 'weak' }],
        routes: [{ path: '/app/*', fetch, policy: { auth: 'strong' } }],
      }),
    ).toEqual([
      'constraints[0].auth: the constraint on /app/open/* lets in users of "weak" at /app/open, where route "/app/*" asks for users of "strong": its schemes count in the place of those. Name some of those alone, or add "weak" to the "auth" of route "/app/*", if their users may come in there, too',
    ]);
  });

  test.each<[string, object, RegExp]>([
    [
      'takes one of them and another',
      {
        constraints: [{ paths: ['/a'], auth: ['strong', 'weak'] }],
        routes: [{ path: '/*', fetch, policy: { auth: 'strong' } }],
      },
      /^constraints\[0\]\.auth: the constraint on \/a lets in users of "weak" at \/a, where route "\/\*"/,
    ],
    [
      'stands around the application of the route',
      {
        constraints: [{ paths: ['/shop/*'], auth: 'weak' }],
        routes: [
          {
            mount: '/shop',
            policy: { auth: 'strong' },
            application: { routes: [{ path: '/till', methods: ['POST'], fetch }] },
          },
        ],
      },
      /^constraints\[0\]\.auth: .* "weak" at \/shop\/till, where route "\/till" asks for users of "strong"/,
    ],
    [
      'stands within another constraint',
      {
        policy: { auth: 'strong' },
        constraints: [{ paths: ['/shop/*'], auth: 'strong' }],
        routes: [
          {
            mount: '/shop',
            application: { constraints: [{ paths: ['/*'], auth: 'weak' }], routes: [{ path: '/x', fetch }] },
          },
        ],
      },
      /^routes\[0\]\.application\.constraints\[0\]\.auth: .* "weak" at \/shop\/x, where the constraint on \/shop\/\* asks/,
    ],
    [
      'stands within one with roles alone, of an open route',
      {
        policy: { auth: 'strong' },
        constraints: [{ paths: ['/shop/*'], roles: ['admin'] }],
        routes: [
          {
            mount: '/shop',
            application: {
              constraints: [{ paths: ['/*'], auth: 'free' }],
              routes: [{ path: '/x', fetch, policy: { auth: false } }],
            },
          },
        ],
      },
      /^routes\[0\]\.application\.constraints\[0\]\.auth: .* "free" at \/shop\/x, where the constraint on \/shop\/\* asks for users of "strong"/,
    ],
  ])('is a warning where it %s', (_, config, warning) => {
    expect(warningsOf(config)).toEqual([expect.stringMatching(warning)]);
  });

  test.each<[string, object]>([
    [
      'it names some of the route’s alone',
      {
        constraints: [{ paths: ['/a'], auth: 'strong' }],
        routes: [{ path: '/*', fetch, policy: { auth: ['weak', 'strong'] } }],
      },
    ],
    ['the route asks for nobody', { constraints: [{ paths: ['/a'], auth: 'weak' }], routes: [{ path: '/*', fetch }] }],
    [
      'a more specific route is at its path',
      {
        constraints: [{ paths: ['/a/b'], auth: 'weak' }],
        routes: [
          { path: '/*', fetch, policy: { auth: 'strong' } },
          { path: '/a/*', fetch, policy: { auth: 'weak' } },
        ],
      },
    ],
    [
      'a more specific constraint is at the path of the route',
      {
        constraints: [
          { paths: ['/*'], auth: 'weak' },
          { paths: ['/a'], auth: 'strong' },
        ],
        routes: [
          { path: '/a', fetch, policy: { auth: 'strong' } },
          { path: '/b', fetch },
        ],
      },
    ],
    [
      'its methods are others than those of the route',
      {
        constraints: [{ paths: ['/a'], methods: ['GET'], auth: 'weak' }],
        routes: [
          { path: '/a', methods: ['POST'], fetch, policy: { auth: 'strong' } },
          { path: '/a', methods: ['GET'], fetch },
        ],
      },
    ],
    [
      'the route is on another host than any that it is asked on',
      {
        constraints: [{ paths: ['/a'], auth: 'weak' }],
        routes: [
          { path: '/a', host: '*.example.com', fetch },
          { path: '/b', fetch, policy: { auth: 'strong' } },
        ],
      },
    ],
  ])('is none where %s', (_, config) => {
    expect(warningsOf(config)).toEqual([]);
  });
});

describe('roles of a constraint that names no schemes', () => {
  const under = (policy: object, roles: string[], more: object = {}) => ({
    policy: { auth: 'weak' },
    constraints: [{ paths: ['/app/*'], roles }],
    routes: [{ path: '/app/*', fetch, policy }, { path: '/*', fetch }, ...[more].filter(one => 'path' in one)],
  });

  test('may be those of the users of its routes, whoever is asked elsewhere', () => {
    expect(errorsOf(under({ auth: 'strong' }, ['admin']))).toEqual([]);
    expect(errorsOf(under({ auth: 'free' }, ['anything']))).toEqual([]);
  });

  test('are an error where these cannot have one, also if others could', () => {
    const config = {
      ...under({ auth: 'weak' }, ['admin']),
      policy: { auth: 'strong' },
    };
    expect(errorsOf({ ...config, routes: [config.routes[0]!] })).toEqual([
      'constraints[0].roles[0]: the constraint on /app/*: no user can have the role "admin"; say who has it, for example "roles: { admin: [alice] }" under "auth.weak"',
    ]);
    expect(errorsOf(under({}, ['admin']))).toHaveLength(1);
    expect(errorsOf(under({ auth: false }, ['admin']))).toHaveLength(1);
  });

  test('may be those of users that another constraint on the way names', () => {
    const inner = (outer: object) => ({
      ...outer,
      routes: [
        {
          mount: '/shop',
          application: { constraints: [{ paths: ['/*'], roles: ['admin'] }], routes: [{ path: '/x', fetch }] },
        },
      ],
    });
    expect(errorsOf(inner({ policy: { auth: 'weak' } }))).toHaveLength(1);
    const constraints = [{ paths: ['/shop/*'], auth: 'strong' }];
    expect(errorsOf(inner({ policy: { auth: 'weak' }, constraints }))).toEqual([]);
  });

  test('that some of the routes cannot give are a warning for these', () => {
    const config = under({ auth: 'strong' }, ['admin'], { path: '/app/old/*', fetch });
    expect(errorsOf(config)).toEqual([]);
    expect(warningsOf(config)).toEqual([
      'constraints[0].roles: the constraint on /app/*: nobody comes in at /app/old, where users of "weak" are asked for, and none of them can have the role "admin"',
    ]);
  });

  test('of a route that users of a constraint cannot have are a warning, too', () => {
    expect(
      warningsOf({
        constraints: [{ paths: ['/a'], auth: 'weak' }],
        routes: [{ path: '/*', fetch, policy: { auth: ['weak', 'strong'], roles: ['admin'] } }],
      }),
    ).toEqual([
      'routes[0].policy.roles: route "/*": nobody comes in at /a, where users of "weak" are asked for, and none of them can have the role "admin"',
    ]);
  });
});

test('a constraint that asks for a login is a warning where the route has no session to keep it', () => {
  const config = (session: string) => ({
    constraints: [{ paths: ['/a'], auth: 'login' }],
    routes: [{ path: '/*', fetch, session }],
  });
  expect(warningsOf(config('none'))).toEqual([
    'constraints[0].auth: the constraint on /a: nobody comes in at /a: a session keeps who has signed in, and route "/*" has none',
  ]);
  expect(warningsOf(config('auto'))).toEqual([]);
});

test.each([
  ['a handler', { fetch }],
  ['files', { files: 'public' }],
])('a mounted application has its own sessions for that, or none, whatever the server has (%s)', (_, target) => {
  const config = (ofServer: object | false, ofMount: object | false) => ({
    session: ofServer,
    constraints: [{ paths: ['/a/*'], auth: 'login' }],
    routes: [{ mount: '/a', application: { session: ofMount, routes: [{ path: '/b', ...target }] } }],
  });
  expect(warningsOf(config({}, false))).toEqual([
    'constraints[0].auth: the constraint on /a/*: nobody comes in at /a/b: a session keeps who has signed in, and route "/b" has none',
  ]);
  expect(warningsOf(config(false, {}))).toEqual([]);
});

describe('protect all or none, with constraints', () => {
  const mixOf = (config: object) =>
    toProblems(checkAllOrNone(parseConfig({ auth, ...config })), () => ({})).map(textOf);

  test('a route that a constraint protects in part is open in part', () => {
    expect(mixOf({ constraints: [{ paths: ['/admin/*'], auth: 'weak' }], routes: [{ path: '/*', fetch }] })).toEqual([
      expect.stringMatching(
        /^routes\[0\]\.policy: route "\/\*" \(as at \/\) is open and the constraint on \/admin\/\* asks for a user, on the same sessions/,
      ),
    ]);
    expect(
      mixOf({
        constraints: [{ paths: ['/a'], methods: ['POST'], otherMethods: 'allow', auth: 'weak' }],
        routes: [{ path: '/a', fetch }],
      }),
    ).toHaveLength(1);
  });

  test.each<[string, object]>([
    [
      'it protects whole routes, and the others are protected themselves',
      {
        constraints: [{ paths: ['/open/*'], auth: 'weak' }],
        routes: [
          { path: '/open/*', fetch },
          { path: '/x', fetch, policy: { auth: 'weak' } },
        ],
      },
    ],
    [
      'what is beside it is refused',
      {
        constraints: [{ paths: ['/a'], methods: ['GET'], auth: 'weak' }],
        routes: [{ path: '/a', fetch }],
      },
    ],
    [
      'the session keeps the login',
      { constraints: [{ paths: ['/admin/*'], auth: 'login' }], routes: [{ path: '/*', fetch }] },
    ],
    [
      'the rest has no sessions',
      {
        constraints: [{ paths: ['/admin/*'], auth: 'weak' }],
        routes: [
          { path: '/*', fetch, session: 'none' },
          { path: '/admin/*', fetch },
        ],
      },
    ],
  ])('it is none where %s', (_, config) => {
    expect(mixOf(config)).toEqual([]);
  });
});
