import { describe, expect, test } from 'vitest';
import { PathRewrite } from '../../src/gateway/routing/path-rewrite.ts';
import { parseRoutePattern } from '../../src/http/route-pattern.ts';

function rewrite(path: string, to: string): PathRewrite {
  return new PathRewrite(parseRoutePattern(path), to);
}

describe('a path is rewritten for the backend', () => {
  test.each([
    ['/app/*', '/other', '/app', '/other'],
    ['/app/*', '/other', '/app/', '/other/'],
    ['/app/*', '/other', '/app/a/b', '/other/a/b'],
    ['/app/*', '/', '/app', '/'],
    ['/app/*', '/', '/app/a', '/a'],
    ['/*', '/app', '/', '/app/'],
    ['/*', '/app', '/a', '/app/a'],
    ['/socket', '/ws/', '/socket', '/ws/'],
    ['/chat/:room', '/rooms/:room', '/chat/1', '/rooms/1'],
    ['/:a/:b/*', '/x/:b', '/one/two/three', '/x/two/three'],
    // Escapes are data of their segment, and stay.
    ['/chat/:room', '/rooms/:room', '/chat/a%2F..%2Fb', '/rooms/a%2F..%2Fb'],
    ['/app/*', '/other', '/app/%252e%252e/x', '/other/%252e%252e/x'],
    // So are parameters, those of the route's own last segment included.
    ['/app/*', '/other', '/app/a;b=c', '/other/a;b=c'],
    ['/app/*', '/other', '/app;jsessionid=A', '/other;jsessionid=A'],
    ['/app/*', '/other', '/app;v=1/a', '/other;v=1/a'],
    ['/app/*', '/', '/app;jsessionid=A', '/;jsessionid=A'],
    ['/app/*', '/', '/app;v=1/a', '/a'],
    ['/app/*', '/other', '/;v/app/a', '/other/a'],
    ['/chat/:room', '/rooms/:room', '/chat/1;v=2', '/rooms/1;v=2'],
  ])('%s to %s: %s is %s', (path, to, publicPath, backendPath) => {
    expect(rewrite(path, to).toBackend(publicPath)).toBe(backendPath);
  });
});

describe('a path of the backend is rewritten back', () => {
  test.each([
    ['/app/*', '/other', '/other', '/app'],
    ['/app/*', '/other', '/other/', '/app/'],
    ['/app/*', '/other', '/other/a%2fb', '/app/a%2Fb'],
    ['/app/*', '/other', '/%6fther/a', '/app/a'],
    ['/app/*', '/other', '/otherwise', undefined],
    ['/app/*', '/other', '/other/../admin', undefined],
    ['/app/*', '/other', '/', undefined],
    ['/app/*', '/', '/', '/app/'],
    ['/app/*', '/', '//evil.example', '/app/evil.example'],
    ['/*', '/app', '/app', '/'],
    ['/*', '/app', '/app//evil.example', '/evil.example'],
    ['/socket', '/ws', '/ws', '/socket'],
    ['/app/*', '/other', '/other;jsessionid=A', '/app;jsessionid=A'],
    ['/app/*', '/', '/;jsessionid=A', '/app/;jsessionid=A'],
    ['/socket', '/ws', '/ws;v=1', '/socket;v=1'],
    ['/socket', '/ws', '/ws/more', undefined],
    ['/chat/:room', '/rooms/:room', '/rooms/2', '/chat/2'],
    ['/chat/:room', '/rooms/:room', '/rooms/', undefined],
    // What the backend does not say is as in the request.
    ['/t/:tenant/*', '/app', '/app/x', '/t/1/x'],
  ])('%s to %s: %s is %s', (path, to, backendPath, publicPath) => {
    const request = path.replace('*', 'x').replaceAll(/:\w+/g, '1');
    expect(rewrite(path, to).toPublic(backendPath, request, false)).toBe(publicPath);
  });

  test('unless it is public already, and the route is deeper than the backend', () => {
    expect(rewrite('/app/*', '/').toPublic('/app/x', '/app', true)).toBeUndefined();
    expect(rewrite('/app/*', '/').toPublic('/app/x', '/app', false)).toBe('/app/app/x');
    expect(rewrite('/app/*', '/').toPublic('/x', '/app', true)).toBe('/app/x');
    expect(rewrite('/app/*', '/app/v2').toPublic('/app/v2/x', '/app', true)).toBe('/app/x');
  });
});

test.each([
  ['/app/*', '/b/*', 'leave out the "*"'],
  ['/app/*', '/b/', 'leave out the "/" at its end'],
  ['/app', '/*', 'leave out the "*"'],
  ['/chat/:room', '/rooms/:id', 'has no ":id"'],
  ['/app', '/a/../b', 'dot segments'],
  ['/app', 'b', 'begin it with "/"'],
  ['/app', '', 'begin it with "/"'],
  ['/app', '/b?c', 'leave out the query'],
  ['/:x/*', '/:x/:x', 'name the second ":x" differently'],
  ['/:x', '/:x:x', 'needs a name'],
])('a rewrite of %s to %s is a TypeError', (path, to, message) => {
  expect(() => rewrite(path, to)).toThrow(message);
});
