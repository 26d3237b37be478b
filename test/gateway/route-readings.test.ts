import { describe, expect, test } from 'vitest';
import { relayLimits } from '../../src/gateway/relay/limits.ts';
import type { Route, Target } from '../../src/gateway/route.ts';
import type { RouteDemands } from '../../src/gateway/route-demands.ts';
import { RouteReadings } from '../../src/gateway/route-readings.ts';
import { PathRewrite } from '../../src/gateway/routing/path-rewrite.ts';
import { createRouter, type RouteEntry } from '../../src/gateway/routing/router.ts';
import type { Upstream } from '../../src/gateway/upstream/upstream.ts';
import { normalizePath } from '../../src/http/path.ts';
import type { RequestHead } from '../../src/http/request-head.ts';
import { parseRoutePattern } from '../../src/http/route-pattern.ts';
import { cpuTime } from '../cpu-time.ts';
import { isWithin, laxModels, models } from '../guard/path-models.ts';

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
  addresses: [],
  limits: [],
  others: {},
  webSocket: { maxMessageBytes: 65_536, maxLifetimeMs: Number.POSITIVE_INFINITY },
};
const CONFIDENTIAL = { isConfidential: true };

/** @returns the name of the route that takes a request, a refusal's status, or undefined where no route is declared. */
function gateway(...routes: Declared[]) {
  const entries = routes.map(
    ({ path, to, rewrite, demands, sessionMode = 'none', methods, host }): RouteEntry<Route> => {
      const relay = relayLimits();
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
  return (
    target: string,
    { method = 'GET', host = 'a', isUpgrade = false, what = 'status' as 'status' | 'reason' } = {},
  ): string | number | undefined => {
    const path = normalizePath(target);
    if (path === undefined) return 400;
    const head = { path, host, method, isUpgrade } as RequestHead;
    const match = router.match(head);
    if (match === undefined) return undefined;
    if ('allowedMethods' in match) return 405;
    return readings.judge(head, match.value)?.[what] ?? match.name;
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

describe('a mistake of a server leads round no stricter policy:', () => {
  const take = gateway(
    { path: '/app/admin/*', demands: CONFIDENTIAL },
    { path: '/app/ärger/*', demands: CONFIDENTIAL },
    { path: '/app/straße', demands: CONFIDENTIAL },
    { path: '/app/task/*', demands: CONFIDENTIAL },
    { path: '/app/my docs/*', demands: CONFIDENTIAL },
    { path: '/app/*' },
    { path: '/*' },
  );

  test.each<[string, string[]]>([
    [
      'a query or a fragment of what was decoded',
      [
        ...['/app/admin%3Fx', '/app/admin%3F', '/app/admin%23x', '/app/admin%253Fx', '/app/admin%2523'],
        ...[
          '/app%2Fadmin%3Fx',
          '/app/x%2F..%2Fadmin%3Fx',
          '/app/admin%25253Fx',
          '/APP/Admin%3Fx',
          '/app/admin%3F%2F..%2Fx',
        ],
        ...['/app/admin%3Fx;a=b', '/app/admin.%3Fx'],
      ],
    ],
    [
      'a line of a request that was decoded',
      [
        ...['/app/admin%0D%0AX-Y:%20z', '/app/admin%20HTTP/1.1%0D%0AX:%20y', '/app/admin%0Ax', '/app/admin%250Ax'],
        ...['/app/admin%0D/x', '/app/admin%20HTTP/1.0%0A%0A'],
      ],
    ],
    [
      'what a parser of URLs makes of what was decoded',
      [
        '/app/ad%0Amin',
        '/app/ad%09min/x',
        '/app/x/.%0A./admin',
        '/%2Fx/app/admin',
        '/%2Fhost:80/app/admin/x',
        '/%250A/app/admin',
      ],
    ],
    [
      'names in another case or form',
      [
        ...[
          '/app/%C3%84rger',
          '/app/%C3%84RGER/x',
          '/app/a%CC%88rger',
          '/app/A%CC%88RGER',
          '/app/%E4rger',
          '/app/%C4rger',
        ],
        ...['/app/STRASSE', '/app/stra%E1%BA%9Ee', '/app/Stra%C3%9Fe', '/app%2F%C3%84rger', '/app/%25C3%2584rger'],
        ...['/app/%EF%BD%81dmin', '/app/%EF%BC%A1DMIN', '/app/adm%C4%B1n', '/app/adm%C4%B0n', '/app/ta%C5%BFk/x'],
        ...[
          '/app/tas%E2%84%AA',
          '/app/%E2%93%90dmin',
          '/app/%F0%9D%90%9Admin',
          '/app/a%C2%ADdmin',
          '/app/admin%E2%80%8B/x',
        ],
      ],
    ],
    [
      'separators in another form',
      [
        ...[
          '/app%EF%BC%8Fadmin',
          '/app/x/%EF%BC%8E%EF%BC%8E/admin',
          '/app/x/%E2%80%A5/admin',
          '/app/admin%EF%BC%9Bx/y',
        ],
        ...[
          '/app/admin%EF%BC%9Fx',
          '/app/admin%EF%BC%83x',
          '/app%EF%BC%852Fadmin',
          '/app%EF%BC%BCadmin',
          '/app/admin%E3%80%80',
        ],
        '/app/%FF/%EF%BC%8E%EF%BC%8E/admin',
      ],
    ],
    [
      'blanks at the ends of names',
      [
        ...[
          '/app/admin%0A',
          '/app/admin%0D%0A',
          '/app/admin%C2%A0',
          '/app/admin%0B',
          '/app/admin%0C/x',
          '/app/admin%09',
        ],
        ...[
          '/app/admin%1F',
          '/app/admin%85',
          '/app/admin%C2%85',
          '/app/admin%A0',
          '/app/admin%E2%80%83',
          '/app/admin%7F',
        ],
        ...['/app/admin%E3%80%80', '/app/admin%EF%BB%BF', '/app/admin%E2%80%A8', '/app/admin.%20.%0A/x', '/app/admin+'],
        ...[
          '/app/%20admin',
          '/app/%0Aadmin/x',
          '/app/%C2%A0admin',
          '/app/+admin',
          '/%20app%20/%20admin%20/x',
          '/app/%20/admin',
        ],
        ...['/app/x/..%20/admin', '/app/x/%20../admin', '/app/x/..%C2%A0/admin', '/app/admin%2520'],
        ...['/app/my+docs', '/app/my%C2%A0docs/x', '/app/my%2520docs'],
      ],
    ],
    [
      'streams of files, and escapes of IIS',
      [
        ...[
          '/app/admin::$INDEX_ALLOCATION/x',
          '/app/admin%3A%3A%24INDEX_ALLOCATION',
          '/app/admin::$data',
          '/app/admin.::$DATA.',
        ],
        ...[
          '/app/admin:$I30:$INDEX_ALLOCATION/x',
          '/app/%25u0061dmin/x',
          '/app%25u002Fadmin',
          '/app/%25uFF41dmin',
          '/app%25u005Cadmin',
        ],
      ],
    ],
    [
      'UTF-8 that is longer than it has to be',
      [
        ...[
          '/app%F0%80%80%AFadmin',
          '/app%F8%80%80%80%AFadmin',
          '/app%FC%80%80%80%80%AFadmin',
          '/app/%F0%80%81%A1dmin',
        ],
        ...[
          '/app/x/%F0%80%80%AE%F0%80%80%AE/admin',
          '/app/%E0%83%A4rger',
          '/app/%F0%80%83%A4rger',
          '/app%25F0%2580%2580%25AFadmin',
        ],
      ],
    ],
    [
      'bytes that are no characters and are left out',
      [
        '/app/ad%FFmin',
        '/app%FE/admin/x',
        '/app/x/.%FF./admin',
        '/app/x/..%80/admin',
        '/app/admin%C3',
        '/app/%E2%82admin',
      ],
    ],
  ])('%s', (_, paths) => {
    for (const path of paths) expect([path, take(path)]).toEqual([path, 400]);
  });

  test('but what leads round nothing is forwarded', () => {
    for (const path of [
      ...['/app/x%3Fy', '/app/a%23b', '/app/a%253Fb', '/app/x%0Ay', '/app/%0A', '/app/x%0D%0AX:%20y', '/app/a%3F/../b'],
      ...[
        '/app/%C3%84pfel',
        '/app/%E6%97%A5%E6%9C%AC',
        '/app/%F0%9F%98%80',
        '/app/x%EF%BC%8Fy',
        '/app/%C3%A9+%C3%A9',
        '/app/%E9',
      ],
      ...[
        '/app/a:b',
        '/app/a::$b',
        '/app/v1:list',
        '/app/admin:edit',
        '/app/a+b',
        '/app/HEAD~1',
        '/app/x%20y',
        '/app/admin%20panel',
      ],
      ...[
        '/app/admins%3Fx',
        '/app/.admin',
        '/app/administration%3F',
        '/app/%F0%80%80%AFx',
        '/app/%25u0061',
        '/app/x%E2%80%8By',
      ],
      ...['/app/%2520x', '/app/x/..%20/y', '/app/$x'],
    ])
      expect([path, take(path)]).toEqual([path, '/app/*']);
    expect(take('/%2Fhost/x')).toBe('/*');
  });

  test('nor does a mistake lead out of a rewritten route to one', () => {
    const strict = gateway(
      { path: '/pub/admin/*', rewrite: '/app/admin', demands: CONFIDENTIAL },
      { path: '/pub/*', rewrite: '/app' },
      { path: '/elsewhere/*', rewrite: '/app/pages' },
      { path: '/other/*', to: 'other', rewrite: '/app/pages' },
    );
    for (const path of [
      ...[
        '/pub/admin%3Fx',
        '/pub/admin%0A/x',
        '/pub/%EF%BD%81dmin',
        '/elsewhere/%EF%BC%8E%EF%BC%8E/admin',
        '/pub/Admin',
      ],
      ...['/elsewhere/%EF%BC%8E%EF%BC%8E/ADMIN/x', '/elsewhere/..%20/%20admin', '/pub/x%2F..%2Fadmin%3Fx'],
    ])
      expect([path, strict(path)]).toEqual([path, 400]);
    for (const path of ['/elsewhere/a%3Fb', '/elsewhere/%EF%BC%8E%EF%BC%8E/x', '/elsewhere/a;b=c/d'])
      expect([path, strict(path)]).toEqual([path, '/elsewhere/*']);
    expect(strict('/other/%EF%BC%8E%EF%BC%8E/admin')).toBe('/other/*');
  });
});

describe('a path that is cut off by mistake is asked for no route of its own:', () => {
  const take = gateway(
    { path: '/cars/:model/parts' },
    { path: '/a', to: 'other' },
    { path: '/a/b' },
    { path: '/shop/app/x' },
    { path: '/items/:id' },
    { path: '/strict', demands: CONFIDENTIAL },
    { path: '/strict/own/:page' },
    { path: '/moved/:model/parts', rewrite: '/m/:model/p' },
  );

  test.each([
    ['/cars/golf;color=red/parts', '/cars/:model/parts'],
    ['/cars;v=1/golf;color=red/parts;x', '/cars/:model/parts'],
    ['/cars/golf%3Bred/parts', '/cars/:model/parts'],
    ['/cars/golf%253Bred/parts', '/cars/:model/parts'],
    ['/cars/golf%3Fred/parts', '/cars/:model/parts'],
    ['/cars/golf%23red/parts', '/cars/:model/parts'],
    ['/cars/golf%0Ared/parts', '/cars/:model/parts'],
    ['/a;v=1/b', '/a/b'],
    ['/a;v=1/b;w=2', '/a/b'],
    ['/shop;jsessionid=1/app/x', '/shop/app/x'],
    ['/shop/app;jsessionid=1/x', '/shop/app/x'],
    ['/items/x%3Fy', '/items/:id'],
    ['/items/a%3Bb', '/items/:id'],
    ['/items/%3Fy', '/items/:id'],
    ['/moved/golf;color=red/parts', '/moved/:model/parts'],
    ['/moved/golf%3Bred/parts', '/moved/:model/parts'],
    ['/moved/a%3Fb/parts', '/moved/:model/parts'],
  ])('%s is taken by %s', (path, name) => {
    expect(take(path)).toBe(name);
  });

  test('only by a stricter policy', () => {
    for (const path of ['/strict;a/own/x', '/strict;/own/x', '/strict;a=%2F../own/x'])
      expect([path, take(path)]).toEqual([path, 400]);
    expect(take('/strict/own/x;y/')).toBe(undefined);
    expect(take('/strict/own/x;y')).toBe('/strict/own/:page');
  });

  test('and its parameters are still taken off', () => {
    expect(take('/a;v=1')).toBe('/a');
    expect(take('/a%3Bv')).toBe(undefined);
    expect(take('/cars/golf/parts%2F..%2F..%2Fx')).toBe(undefined);
    expect(take('/cars/golf%2F..%2F../parts')).toBe(400);
  });
});

describe('an escaped slash in a parameter', () => {
  test('is refused where the path with a slash is not declared, and the reason says what to do', () => {
    const take = gateway({ path: '/:pkg' }, { path: '/users/:id' });
    for (const path of [
      '/@scope%2Fname',
      '/users/1%2Fdelete',
      '/admin%2Fsecret',
      '/users/..%2F..%2Fadmin%2Fx',
      '/users/..%252F',
    ])
      expect([path, take(path)]).toEqual([path, 400]);
    expect(take('/@scope%2Fname', { what: 'reason' })).toBe(
      'the path is one of the route "/:pkg", and could be read as one that no route is declared for; if an escaped slash is meant, declare the path with a slash as well, for example "/:a/:b"',
    );
    expect(take('/users/%3B', { what: 'reason' })).not.toContain('slash');
  });

  test('is forwarded where it is, by the same route or another that leads the same way', () => {
    const two = gateway({ path: '/:pkg' }, { path: '/:scope/:pkg' });
    expect(two('/@scope%2Fname')).toBe('/:pkg');
    expect(two('/@scope%2fname')).toBe('/:pkg');
    expect(two('/@scope%2Fname%2Fx')).toBe(400);
    const wide = gateway({ path: '/api/projects/:id' }, { path: '/api/projects/*' });
    expect(wide('/api/projects/group%2Fsub%2Fproject')).toBe('/api/projects/:id');
    expect(wide('/api/projects/group%2F..%2F..%2Fadmin')).toBe(400);
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
const MISTAKEN_PIECES = [
  ...[
    '%3F',
    '%3fx',
    '%23',
    '%253F',
    '%2523',
    '%0A',
    '%0D%0A',
    '%250a',
    '%20HTTP/1.1%0D%0A',
    '%09',
    '%0B',
    '%C2%A0',
    '+',
  ],
  ...[
    '%E4rger',
    '%C3%84rger',
    'a%CC%88rger',
    '%C3%A4rger',
    '%EF%BD%81dmin',
    'adm%C4%B1n',
    'AD%4DIN',
    '%E2%80%83',
    '%25u0061dmin',
  ],
  ...[
    '%EF%BC%8F',
    '%EF%BC%8E%EF%BC%8E',
    '%EF%BC%9B',
    '%F0%80%80%AF',
    '%F0%80%80%AE',
    '%F8%80%80%80%AF',
    '%E0%80%AF',
    '%C0%AF',
  ],
  ...['::$DATA', '::$INDEX_ALLOCATION', ':$I30:$INDEX_ALLOCATION', '%25u002F', '%2Fx', '%20', '%20..', '.%0A.', '%FF'],
];
/** As bytes, and as text. */
const STRICTER_AREAS = ['/app/admin', '/app/ärger', '/app/Ã¤rger'];

test.each<[string, readonly string[], seed: number]>([
  ['in use', PIECES, 20_261_128],
  ['in use or by mistake', [...PIECES, ...MISTAKEN_PIECES], 28],
])(
  'of the ways to read a path that are %s none leads from a laxer route to a stricter one, nor out of what is declared',
  (_, pieces, seed) => {
    const take = gateway(
      { path: '/app/admin/*', demands: CONFIDENTIAL },
      { path: '/app/ärger/*', demands: CONFIDENTIAL },
      { path: '/app/*' },
      { path: '/x/*', sessionMode: 'auto' },
      { path: '/page' },
    );
    const next = random(seed);
    let forwarded = 0;
    for (let i = 0; i < 25_000; i++) {
      let path = ['/app/', '/app', '/', '/x/', '/page'][next(5)]!;
      for (let n = 1 + next(7); n > 0; n--) path += pieces[next(pieces.length)]!;
      const name = take(path);
      if (typeof name !== 'string' || name === '/app/admin/*' || name === '/app/ärger/*') continue;
      forwarded++;
      const sent = normalizePath(path)!;
      for (const [model, read] of [...Object.entries(models), ...Object.entries(laxModels)]) {
        const reading = read(sent);
        const where = (): string => [path, 'sent as', sent, 'by', name, 'is', reading, 'to', model].join(' ');
        if (STRICTER_AREAS.some(area => isWithin(reading, area))) expect.fail(where());
        // Lax servers, and what keeps its parameters, may see a path that nobody declared.
        if (model in laxModels || reading.includes(';')) continue;
        const areas = name === '/x/*' ? ['/x'] : ['/app', '/page'];
        if (!areas.some(area => isWithin(reading, area))) expect.fail(where());
      }
    }
    // Else it would say nothing.
    expect(forwarded).toBeGreaterThan(1_000);
  },
);

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
    ...['%3F', '%23', '%0A', '%C2%A0', '%EF%BC%8F', '%E6%97%A5', 'e%CC%81', '%F0%9F%98%80', '%25u0061'],
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

/** Long names, and what costs more than others to be compared. */
const HOSTILE = [
  ...[
    '%3F',
    '%253F;',
    '%0A',
    '+',
    '%20',
    '%C2%A0',
    '/%20',
    '%CC%88',
    '%CC%A3%CC%88',
    '%EF%B7%BA',
    '/%C3%84',
    '/%EF%BC%8E',
    '%FF%C3%84',
  ],
  ...[
    '::$A',
    ':$',
    '%F0%80%80%AF',
    '%25u0061',
    '%0A%23;%3F\\',
    '.%0A./',
    '%EF%BC%8F;%3F%0A%2F..%2F',
    'e%CC%81',
    '%E2%80%8B',
    '\u00e4',
  ],
];

test('a long path costs no more than a few milliseconds, however many ways there are to read it', () => {
  const take = gateway({ path: '/app/admin/*', demands: CONFIDENTIAL }, { path: '/*' });
  for (const part of ['%25252F;a', '/..;%2e%252e', '.%20', ';', '%3B', '/a;b', 'A', '%255c..', '%C0%AF', ...HOSTILE]) {
    const path = `/app${part.repeat(Math.floor(16_000 / part.length))}`;
    const took = cpuTime(() => {
      for (let i = 0; i < 10; i++) take(path);
    });
    expect([part, took < 300]).toEqual([part, true]);
  }
});
