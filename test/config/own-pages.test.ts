import { describe, expect, test } from 'vitest';
import { checkConfig } from '../../src/config/check.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { defineEndpoint } from '../../src/index.ts';
import { problemsOf } from './problems-of.ts';

const fetch = () => new Response();
const verify = () => true;
const staff = { type: 'form', verify };
const customers = { type: 'form', verify };
const idp = { type: 'oidc', issuer: 'https://id.example', clientId: 'us' };
const auth = { staff, customers, idp };
const socket = (path: string) => defineEndpoint({ path });

const errorsOf = (config: object) => problemsOf({ auth, ...config });

const warningsOf = (config: object) =>
  checkConfig(parseConfig({ auth, ...config }))
    .map(({ path, message }) => `${path}: ${message}`)
    .filter(text => /takes it|takes the place/.test(text));

describe('two schemes with the same pages', () => {
  const CLASH =
    'auth.customers: the scheme "staff" and the scheme "customers" are both at /login, /j_security_check, /logout; set "paths" of auth.customers, or move the other';

  test.each<[string, object]>([
    ['one route takes both', { routes: [{ path: '/*', fetch, policy: { auth: ['staff', 'customers'] } }] }],
    [
      'two routes take one each',
      {
        policy: { auth: 'staff' },
        routes: [
          { path: '/a', fetch },
          { path: '/b', fetch, policy: { auth: 'customers' } },
        ],
      },
    ],
    [
      'a constraint takes the other',
      {
        policy: { auth: 'staff' },
        constraints: [{ paths: ['/admin/*'], auth: 'customers' }],
        routes: [{ path: '/*', fetch }],
      },
    ],
    [
      'an application takes the other, with the sessions of the server',
      {
        policy: { auth: 'staff' },
        routes: [
          { path: '/*', fetch },
          { mount: '/shop', policy: { auth: 'customers' }, application: { routes: [{ path: '/*', fetch }] } },
        ],
      },
    ],
  ])('are an error where %s', (_, config) => {
    expect(errorsOf(config)).toEqual([CLASH]);
  });

  test('are an error for the path that they share alone', () => {
    const other = { ...customers, paths: { login: '/customers', check: '/customers/check' } };
    const routes = [{ path: '/*', fetch, policy: { auth: ['staff', 'other'] } }];
    expect(errorsOf({ auth: { staff, other }, routes })).toEqual([
      'auth.other: the scheme "staff" and the scheme "other" are both at /logout; set "paths" of auth.other, or move the other',
    ]);
    const sso = { ...idp, login: '/login' };
    expect(
      errorsOf({ auth: { staff, sso }, routes: [{ path: '/*', fetch, policy: { auth: ['staff', 'sso'] } }] }),
    ).toEqual([
      'auth.sso: the scheme "staff" and the scheme "sso" are both at /login; set "login" of auth.sso, or move the other',
    ]);
  });

  test.each<[string, object]>([
    ['have other paths', { routes: [{ path: '/*', fetch, policy: { auth: ['staff', 'idp'] } }] }],
    [
      'are beside other sessions',
      {
        policy: { auth: 'staff' },
        routes: [
          { path: '/*', fetch },
          {
            mount: '/shop',
            policy: { auth: 'customers' },
            application: { session: {}, routes: [{ path: '/*', fetch }] },
          },
        ],
      },
    ],
    [
      'are on other hosts',
      {
        routes: [
          { path: '/*', host: 'a.example', fetch, policy: { auth: 'staff' } },
          { path: '/*', host: 'b.example', fetch, policy: { auth: 'customers' } },
        ],
      },
    ],
    ['are of a scheme that no route takes', { routes: [{ path: '/*', fetch, policy: { auth: 'staff' } }] }],
  ])('are none where they %s', (_, config) => {
    expect(errorsOf(config)).toEqual([]);
    expect(warningsOf(config)).toEqual([]);
  });
});

describe('a route at the path of a page', () => {
  const beside = (...routes: object[]) => ({
    policy: { auth: ['staff', 'idp'] },
    routes: [...routes, { path: '/*', fetch }],
  });

  test.each<[string, object, string]>([
    [
      'a login page of its own',
      beside({ path: '/login', methods: ['GET'], fetch, policy: { auth: false } }),
      'routes[0]: route "/login" and the scheme "staff" both take GET of /login; set "paths" of auth.staff, or move the other',
    ],
    [
      'what signs out',
      beside({ path: '/logout', methods: ['GET', 'POST'], fetch }),
      'routes[0]: route "/logout" and the scheme "staff" both take GET and POST of /logout',
    ],
    [
      'what forms are posted to',
      beside({ path: '/j_security_check', methods: ['POST'], fetch }),
      'routes[0]: route "/j_security_check" and the scheme "staff" both take POST of /j_security_check',
    ],
    [
      'a callback',
      beside({ path: '/oidc/idp/callback', methods: ['GET'], fetch }),
      'routes[0]: route "/oidc/idp/callback" and the scheme "idp" both take GET of /oidc/idp/callback; set "callback" of auth.idp, or move the other',
    ],
    [
      'a back-channel logout, in an application with sessions of its own',
      {
        routes: [
          {
            mount: '/shop',
            application: {
              session: {},
              routes: [
                { path: '/oidc/idp/backchannel-logout', methods: ['POST'], fetch },
                { path: '/*', fetch, policy: { auth: 'idp' } },
              ],
            },
          },
        ],
      },
      'routes[0].application.routes[0]: route "/oidc/idp/backchannel-logout" and the scheme "idp" both take POST of /shop/oidc/idp/backchannel-logout',
    ],
    [
      'tickets',
      {
        policy: { auth: 'staff', tickets: true },
        routes: [{ endpoint: socket('/socket') }, { path: '/socket/ticket', methods: ['POST'], fetch }],
      },
      'routes[1]: route "/socket/ticket" and what gives tickets for route "/socket" both take POST of /socket/ticket; it lies under the path of its route',
    ],
    [
      'tickets of another route',
      {
        policy: { auth: 'staff', tickets: true },
        upstreams: { app: { servers: ['http://localhost:1'] } },
        routes: [{ path: ['/app', '/app/*'], upstream: 'app' }],
      },
      'routes[0]: what gives tickets for route "/app" and what gives tickets for route "/app/*" are both at /app/ticket',
    ],
  ])('is an error for the same method: %s', (_, config, problem) => {
    expect(errorsOf(config).join('\n')).toContain(problem);
  });

  test.each<[string, object, string]>([
    [
      'gets less of it than it says, for every method',
      beside({ path: '/login', fetch }),
      'routes[0]: route "/login" does not get GET of /login: the scheme "staff" takes it; set "paths" of auth.staff',
    ],
    [
      'gets less of it on one host',
      {
        routes: [
          { path: '/login', fetch },
          { path: '/*', host: 'a.example', fetch, policy: { auth: 'staff' } },
        ],
      },
      'routes[0]: route "/login" does not get GET of /login on a.example: the scheme "staff" takes it',
    ],
    [
      'hides it on its host',
      beside({ path: '/login', host: 'a.example', fetch }),
      'routes[0]: on a.example route "/login" takes the place of the scheme "staff" at /login; set "paths"',
    ],
    [
      'does not give out what it says',
      {
        policy: { auth: 'staff', tickets: true },
        routes: [{ endpoint: socket('/socket') }, { path: '/socket/ticket', fetch }],
      },
      'routes[1]: route "/socket/ticket" does not get POST of /socket/ticket: what gives tickets for route "/socket" takes it',
    ],
  ])('is a warning where it %s', (_, config, warning) => {
    expect(errorsOf(config)).toEqual([]);
    expect(warningsOf(config).join('\n')).toContain(warning);
  });

  test.each<[string, object]>([
    ['takes another method', beside({ path: '/login', methods: ['POST'], fetch })],
    [
      'has the page itself',
      {
        ...beside({ path: '/login', fetch, policy: { auth: false } }),
        auth: { staff: { ...staff, loginPage: '/login' }, idp },
      },
    ],
    ['is under it', beside({ path: '/login/help', fetch }, { path: '/oidc/*', fetch })],
    [
      'lies beside other sessions',
      {
        routes: [
          { path: '/login', fetch },
          { mount: '/shop', policy: { auth: 'staff' }, application: { session: {}, routes: [{ path: '/*', fetch }] } },
        ],
      },
    ],
    [
      'is an application without users',
      {
        routes: [
          { path: '/login', fetch },
          { path: '/logout', methods: ['POST'], fetch },
        ],
      },
    ],
  ])('is fine where it %s', (_, config) => {
    expect(errorsOf(config)).toEqual([]);
    expect(warningsOf(config)).toEqual([]);
  });
});
