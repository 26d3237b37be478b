import { expect, test } from 'vitest';
import { parseRoutePattern } from '../../src/http/route-pattern.ts';

test.each([
  ['/', 'exact', '/'],
  ['/chat', 'exact', '/chat'],
  ['/chat/', 'exact', '/chat/'],
  ['/chat/:room', 'template', '/chat/:'],
  ['/:a/:b', 'template', '/:/:'],
  ['/chat/*', 'prefix', '/chat/*'],
  ['/rooms/:room/*', 'prefix', '/rooms/:/*'],
  ['/*', 'prefix', '/*'],
  ['/straße', 'exact', '/stra%C3%9Fe'],
  ['/%7ealice/a b', 'exact', '/~alice/a%20b'],
  ['/a/*', 'prefix', '/a/*'],
  ['/:a/b/:c', 'template', '/:/b/:'],
  ['/a:b', 'exact', '/a:b'],
  ['/...', 'exact', '/...'],
  ['/ ', 'exact', '/%20'],
  ['/a%20b', 'exact', '/a%20b'],
  ['/a%2fb', 'exact', '/a%2Fb'],
  ['/a%41', 'exact', '/aA'],
  ['/%ff', 'exact', '/%FF'],
  ['/a\u0001', 'exact', '/a%01'],
])('%s is %s, of the shape %s', (source, kind, shape) => {
  expect(parseRoutePattern(source)).toMatchObject({ source, kind, shape });
});

test.each([
  ['', 'begin it with "/"'],
  ['chat', 'begin it with "/"'],
  ['/chat?x=1', 'leave out the query'],
  ['/chat#a', 'leave out the query and the fragment'],
  ['/chat*', 'only at the end, after "/"'],
  ['/*/chat', 'only at the end, after "/"'],
  ['/chat/**', 'only at the end, after "/"'],
  ['/chat//*', 'one "/" before the "*"'],
  ['//*', 'one "/" before the "*"'],
  ['/chat//room', 'write "/" once'],
  ['/chat/{room}', 'write ":room" instead of "{room}"'],
  ['/{x}', 'write ":x" instead of "{x}"'],
  ['/:', 'needs a name'],
  ['/:1', 'needs a name'],
  ['/chat/:', 'needs a name'],
  ['/chat/:room-id', 'needs a name'],
  ['/chat/:__proto__', 'needs a name'],
  ['/:a/:a', 'name the second ":a" differently'],
  ['/chat/../x', 'can never match'],
  ['/chat/%zz', 'can never match'],
  ['/chat\\x', 'can never match'],
  ['/a/../b', 'can never match'],
  ['/a/./b', 'can never match'],
  ['/.', 'can never match'],
  ['/..', 'can never match'],
  ['/%2e%2e/x', 'can never match'],
  ['/%2E', 'can never match'],
  ['/.%2e', 'can never match'],
  ['/a%5cb', 'can never match'],
  ['/a%2', 'can never match'],
  ['/%', 'can never match'],
  ['/%00', 'can never match'],
  ['/\u0000', 'can never match'],
  ['/\ud800', 'can never match'],
  ['//', 'write "/" once'],
  ['/chat;x', 'leave out the ";"'],
])('%j is a TypeError that says what to do', (source, remedy) => {
  expect(() => parseRoutePattern(source)).toThrow(TypeError);
  expect(() => parseRoutePattern(source)).toThrow(`not a route pattern: ${JSON.stringify(source)}; `);
  expect(() => parseRoutePattern(source)).toThrow(remedy);
});
