import { describe, expect, test } from 'vitest';
import { PathRewrite } from '../../src/gateway/path-rewrite.ts';
import type { Route, Target } from '../../src/gateway/route.ts';
import type { RouteDemands } from '../../src/gateway/route-demands.ts';
import { parseRoutePattern } from '../../src/gateway/route-pattern.ts';
import { RouteReadings } from '../../src/gateway/route-readings.ts';
import { createRouter, type RouteEntry } from '../../src/gateway/router.ts';
import type { Upstream } from '../../src/gateway/upstream.ts';
import { normalizePath } from '../../src/http/path.ts';
import type { RequestHead } from '../../src/http/request-head.ts';
import { cpuTime } from '../cpu-time.ts';
import { isWithin, models } from '../guard/path-models.ts';

interface Declared {
  path: string;
  /** Another upstream, or a target of our own. Default: the upstream of all others. */
  to?: 'other' | 'own';
  rewrite?: string;
  demands?: Partial<RouteDemands>;
  sessionMode?: Route['sessionMode'];
  methods?: string[];
  host?: string;
}

const upstreams = { app: {} as Upstream, other: {} as Upstream };
const OPEN: RouteDemands = {
  origins: ['self'],
  isConfidential: false,
  others: {},
  webSocket: { maxMessageBytes: 65_536, maxLifetimeMs: Number.POSITIVE_INFINITY },
};
const CONFIDENTIAL = { isConfidential: true };

/** @returns the name of the route that takes a request, a refusal's status, or undefined where no route is declared. */
function gateway(...routes: Declared[]) {
  const entries = routes.map(
    ({ path, to, rewrite, demands, sessionMode = 'none', methods, host }): RouteEntry<Route> => {
      const relay = { maxMessageBytes: 65_536, idleTimeoutMs: 1 };
      const rewriting = rewrite === undefined ? undefined : new PathRewrite(parseRoutePattern(path), rewrite);
      const target: Target =
        to === 'own'
          ? { kind: 'fetch', handler: () => new Response('') }
          : { kind: 'upstream', upstream: upstreams[to ?? 'app'], relay, rewrite: rewriting };
      const value = { name: path, target, policies: [], upgradePolicies: [], sessions: undefined, sessionMode };
      const common = { pattern: path, name: path, ...(methods && { methods }), ...(host !== undefined && { host }) };
      return { ...common, value: { ...value, demands: { ...OPEN, ...demands } } };
    },
  );
  const router = createRouter(entries);
  const readings = new RouteReadings(entries, router);
  return (target: string, { method = 'GET', host = 'a', isUpgrade = false } = {}): string | number | undefined => {
    const path = normalizePath(target);
    if (path === undefined) return 400;
    const head = { path, host, method, isUpgrade } as RequestHead;
    const match = router.match(head);
    if (match === undefined) return undefined;
    if ('allowedMethods' in match) return 405;
    return readings.judge(head, match.value)?.status ?? match.name;
  };
}

describe('a path that leads round a stricter route', () => {
  const take = gateway({ path: '/app/admin/*', demands: CONFIDENTIAL }, { path: '/app/*' }, { path: '/*' });

  test.each([
    '/app/admin/x',
    '/app/admin;a=b/x',
    '/app;a/admin/x',
    '/;x/app/admin/x',
    '/app/;x/admin/x',
    '/app;a/;b/admin;c/x;d',
    '//app//admin/x',
    '/app/./admin/x',
    '/app/y/../admin/x',
    '/%61pp/%61dmin',
    '/app/admin;jsessionid=A',
    '/app/admin/page;jsessionid=A.t1',
  ])("%s is the stricter route's", path => {
    expect(take(path)).toBe('/app/admin/*');
  });

  test.each([
    ...['/app%2Fadmin/x', '/app%2fadmin', '/app/%2Fadmin/x', '/app/x%2F..%2Fadmin/x', '/app/x/..%2Fadmin/x'],
    ...['/app/%252e%252e/app/admin/x', '/app/x/%252E%252E/admin', '/app%252Fadmin/x', '/app%25252Fadmin/x'],
    ...['/app%255Cadmin/x', '/app/x%255c..%255cadmin', '/app%3Ba/admin/x', '/app/admin%3Ba=b/x', '/app/admin%3B/x'],
    ...['/app/admin%253Ba/x', '/%3Bx/app/admin/x', '/app/x;a%2F..%2Fadmin/x', '/app/x%2F..;a%2Fadmin/x'],
    ...['/app/x%2F%2e%2e%3Ba%2Fadmin', '/app/..%3B/app/admin/x', '/app%C0%AFadmin/x', '/app/x/%C0%AE%C0%AE/admin'],
    ...['/app%E0%80%AFadmin', '/app/%2561dmin/x', '/app/admin%2500.html', '/app/admin%2F'],
    // What a server takes for the same name.
    ...[
      '/app/ADMIN/x',
      '/App/admin/x',
      '/APP/ADMIN',
      '/app/admin./x',
      '/app/admin%20/x',
      '/app/admin%20',
      '/app/admin.',
    ],
    ...['/app/Admin;a/x', '/app%2FADMIN/x', '/app/admin.;a/x', '/app/admin%2E%20./x'],
  ])('%s is refused', path => {
    expect(take(path)).toBe(400);
  });

  test.each([
    ...[
      '/app/page;jsessionid=A',
      '/app;jsessionid=A',
      '/app/;jsessionid=A',
      '/app/a;b=c/d;e=f',
      '/app/a%20b',
      '/app/A/B',
    ],
    ...[
      '/app/a%2Fb',
      '/app/100%25',
      '/app/caf%C3%A9',
      '/app/caf%E9;v=1/x',
      '/app/a%3Bb',
      '/app/a.b./c',
      '/app/a%3Ab@c',
    ],
    ...['/app/administrators', '/app/admins;a/x', '/app/xadmin', '/app/x;admin/y', '/app/a%2520b', '/app/x/admin/y'],
    ...['/app/a/;b', '/app/%E2%82%AC', '/app/a+b', '/app/~user/', '/app/..a/x', '/app/a%22b'],
  ])('%s is forwarded by the laxer route', path => {
    expect(take(path)).toBe('/app/*');
  });

  test.each([
    '/app/..;/admin',
    '/app/.;/x',
    '/app\\admin',
    '/app/%5c../admin',
    '/app/%00',
    '/app/%u002fadmin',
    '/app/..;x/',
  ])('%s has no reading at all', path => {
    expect(take(path)).toBe(400);
  });
});

describe('stricter is', () => {
  const DECIDED = { 'the stricter': '/app/strict', refused: 400, 'the laxer': '/*' } as const;
  type Decided = keyof typeof DECIDED;

  test.each<[string, Partial<Declared>, byParameter: Decided, bySlash: Decided, byCase: Decided, byUpgrade?: Decided]>([
    ['a transport', { demands: CONFIDENTIAL }, 'the stricter', 'refused', 'refused'],
    ['a policy that nobody knows', { demands: { others: { roles: ['a'] } } }, 'the stricter', 'refused', 'refused'],
    ['another upstream', { to: 'other' }, 'the stricter', 'refused', 'the laxer'],
    ['a target of our own', { to: 'own' }, 'the stricter', 'refused', 'the laxer'],
    ['a session', { sessionMode: 'existing' }, 'the stricter', 'refused', 'the laxer'],
    ['other paths of the backend', { rewrite: '/other' }, 'the stricter', 'refused', 'the laxer'],
    ['nothing', {}, 'the stricter', 'the laxer', 'the laxer'],
    ['more origins', { demands: { origins: 'any' } }, 'the stricter', 'the laxer', 'the laxer'],
    ['fewer origins', { demands: { origins: [] } }, 'the stricter', 'the laxer', 'the laxer', 'refused'],
    ['no WebSockets', { demands: { webSocket: 'none' } }, 'the stricter', 'the laxer', 'the laxer', 'refused'],
    [
      'a shorter life of WebSockets',
      { demands: { webSocket: { maxMessageBytes: 65_536, maxLifetimeMs: 1 } } },
      'the stricter',
      'the laxer',
      'the laxer',
      'refused',
    ],
  ])('%s', (_, what, byParameter, bySlash, byCase, byUpgrade = bySlash) => {
    const take = gateway({ path: '/app/strict', ...what }, { path: '/*' });
    expect(take('/app/strict;a')).toBe(DECIDED[byParameter]);
    expect(take('/app%2Fstrict')).toBe(DECIDED[bySlash]);
    expect(take('/app/STRICT')).toBe(DECIDED[byCase]);
    expect(take('/app%2Fstrict', { isUpgrade: true })).toBe(DECIDED[byUpgrade]);
  });

  test('also that nothing is declared, or not for the method', () => {
    const take = gateway({ path: '/app/public/*' }, { path: '/items/:id' }, { path: '/app/get', methods: ['GET'] });
    expect(take('/app/public/x%2F..%2F..%2Fadmin')).toBe(400);
    expect(take('/app/public/%252e%252e/admin')).toBe(400);
    expect(take('/items/a%2F..%2F..%2Fadmin')).toBe(400);
    expect(take('/items/a%2Fb')).toBe(400);
    expect(take('/app/public/x%2F..%2Fy')).toBe('/app/public/*');
    expect(take('/app/get;a', { method: 'POST' })).toBe(405);
    const both = gateway({ path: '/app/get', methods: ['GET'] }, { path: '/*' });
    expect(both('/app%2Fget', { method: 'POST' })).toBe(400);
    expect(both('/app%2Fget')).toBe('/*');
  });

  test('the broader route where the narrower is the exception', () => {
    const take = gateway({ path: '/app/page' }, { path: '/app/*', demands: CONFIDENTIAL });
    expect(take('/app/page')).toBe('/app/page');
    // A server that knows no parameters takes it for another page.
    expect(take('/app/page;a=b')).toBe(400);
  });

  test('a route of the same host', () => {
    const take = gateway({ path: '/app/strict', host: 'b', demands: CONFIDENTIAL }, { path: '/*' });
    expect(take('/app%2Fstrict', { host: 'a' })).toBe('/*');
    expect(take('/app%2Fstrict', { host: 'b' })).toBe(400);
    expect(take('/app/STRICT', { host: 'b' })).toBe(400);
  });

  test('not what is declared in two spellings', () => {
    const take = gateway({ path: '/app/admin', demands: CONFIDENTIAL }, { path: '/app/Admin' }, { path: '/app/*' });
    expect(take('/app/admin')).toBe('/app/admin');
    expect(take('/app/Admin')).toBe('/app/Admin');
    expect(take('/app/ADMIN')).toBe(400);
  });
});

test('what we serve ourselves we read in one way', () => {
  const take = gateway(
    { path: '/projects/:id', to: 'own' },
    { path: '/projects/secret', to: 'own', demands: CONFIDENTIAL },
    { path: '/*', to: 'other' },
  );
  expect(take('/projects/group%2Fproject')).toBe('/projects/:id');
  expect(take('/projects/a;b')).toBe('/projects/:id');
  expect(take('/projects/x%2F..%2Fsecret')).toBe(400);
  expect(take('/projects/SECRET')).toBe(400);
});

test('the paths of a rewritten route are read as its backend reads them', () => {
  const take = gateway({ path: '/deep/er/pub/*', rewrite: '/pub' }, { path: '/c/:id', rewrite: '/rooms/:id' });
  expect(take('/deep/er/pub/x%2F..%2Fy')).toBe('/deep/er/pub/*');
  expect(take('/deep/er/pub;jsessionid=A')).toBe('/deep/er/pub/*');
  expect(take('/deep/er/pub;v=1/a')).toBe('/deep/er/pub/*');
  expect(take('/deep/er/pub/x%2F..%2F..%2Fadmin')).toBe(400);
  // To the backend it is `/pub/x/../../admin/../pub/x`.
  expect(take('/deep/er/pub/x%2F..%2F..%2Fadmin%2F..%2Fpub%2Fx')).toBe('/deep/er/pub/*');
  expect(take('/c/a%2Fb')).toBe(400);
  expect(take('/c/a%20b')).toBe('/c/:id');
  const strict = gateway(
    { path: '/pub/admin/*', rewrite: '/app/admin', demands: CONFIDENTIAL },
    { path: '/pub/*', rewrite: '/app' },
  );
  expect(strict('/pub/admin;a/x')).toBe('/pub/admin/*');
  expect(strict('/pub/x%2F..%2Fadmin/x')).toBe(400);
});

/** The same numbers at each run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const PIECES = [
  ...['app', 'admin', 'app', 'admin', 'x', 'page', 'ADMIN', 'App', '%61dmin', '%2561dmin', 'admin.', 'admin%20'],
  ...['/', '/', '/', '/', '//', '%2F', '%2f', '%252F', '%5C', '%255c', '\\', '.', '..', '%2e', '%2E%2e', '%252e', ';'],
  ...[';a=b', ';jsessionid=1', '%3B', '%3bx', '%253B', '..;', '/../', '/./', '%2F..%2F', '%2F..%2F..%2F', ' ', '%20'],
];

test('no reading of a modelled server leads from a laxer route to a stricter one, nor out of what is declared', () => {
  const take = gateway(
    { path: '/app/admin/*', demands: CONFIDENTIAL },
    { path: '/app/*' },
    { path: '/x/*', sessionMode: 'auto' },
    { path: '/page' },
  );
  const next = random(20_261_128);
  let forwarded = 0;
  for (let i = 0; i < 25_000; i++) {
    let path = ['/app/', '/app', '/', '/x/', '/page'][next(5)]!;
    for (let n = 1 + next(7); n > 0; n--) path += PIECES[next(PIECES.length)]!;
    const name = take(path);
    if (typeof name !== 'string' || name === '/app/admin/*') continue;
    forwarded++;
    const sent = normalizePath(path)!;
    for (const [model, read] of Object.entries(models)) {
      const reading = read(sent);
      const where = [path, 'sent as', sent, 'by', name, 'is', reading, 'to', model].join(' ');
      if (isWithin(reading, '/app/admin')) expect.fail(where);
      // Servers that are lax with names, and what keeps its parameters, may see a path that nobody declared.
      if (/node|iis/.test(model) || reading.includes(';')) continue;
      const areas = name === '/x/*' ? ['/x'] : ['/app', '/page'];
      if (!areas.some(area => isWithin(reading, area))) expect.fail(where);
    }
  }
  // Else it would say nothing.
  expect(forwarded).toBeGreaterThan(1_000);
});

test('paths that mean no harm are forwarded, whatever they are made of', () => {
  const take = gateway({ path: '/app/admin/*', demands: CONFIDENTIAL }, { path: '/app/*' });
  const next = random(1);
  const letters = [
    ..."abcXYZ019-_~!$&'()*+,=:@.",
    '%20',
    '%C3%A9',
    '%E2%82%AC',
    '%E9',
    '%26',
    '%40',
    '%25',
    '%2F',
    '%3B',
  ];
  for (let i = 0; i < 8_000; i++) {
    const segments = Array.from({ length: 1 + next(4) }, () => {
      const name = Array.from({ length: 1 + next(6) }, () => letters[next(letters.length)]).join('');
      return `p${name}${next(3) === 0 ? `;v${next(9)}=${name.replaceAll('%2F', '')}` : ''}`;
    });
    const path = `/app/${segments.join('/')}`;
    // Not an assertion for each: that takes longer than all the rest.
    if (take(path) !== '/app/*') expect.fail(`${path} is not forwarded`);
  }
});

test('a long path costs no more than a few milliseconds, however many ways there are to read it', () => {
  const take = gateway({ path: '/app/admin/*', demands: CONFIDENTIAL }, { path: '/*' });
  for (const part of ['%25252F;a', '/..;%2e%252e', '.%20', ';', '%3B', '/a;b', 'A', '%255c..', '%C0%AF']) {
    const path = `/app${part.repeat(Math.floor(16_000 / part.length))}`;
    const took = cpuTime(() => {
      for (let i = 0; i < 10; i++) take(path);
    });
    expect([part, took < 300]).toEqual([part, true]);
  }
});
