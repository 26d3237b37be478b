import { expect, test } from 'vitest';
import { parseRoutePattern } from '../../src/gateway/routing/pattern.ts';

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
  ['/chat/:', 'needs a name'],
  ['/chat/:room-id', 'needs a name'],
  ['/chat/:__proto__', 'needs a name'],
  ['/:a/:a', 'name the second ":a" differently'],
  ['/chat/../x', 'can never match'],
  ['/chat/%zz', 'can never match'],
  ['/chat\\x', 'can never match'],
  ['/chat;x', 'leave out the ";"'],
])('%j is a TypeError that says what to do', (source, remedy) => {
  expect(() => parseRoutePattern(source)).toThrow(TypeError);
  expect(() => parseRoutePattern(source)).toThrow(`not a route pattern: ${JSON.stringify(source)}; `);
  expect(() => parseRoutePattern(source)).toThrow(remedy);
});
