import { expect, test } from 'vitest';
import { parseSetCookie } from '../../src/http/set-cookie.ts';

const NOW = Date.UTC(2026, 0, 1);

test.each<[header: string, is: object | undefined]>([
  ['a=b', { name: 'a', value: 'b', domain: '', path: '', isExpired: false }],
  [' a = "b c" ; Path=/x ; HttpOnly', { name: 'a', value: 'b c', path: '/x' }],
  ['a=b=c; domain=.Example.COM; PATH=/', { value: 'b=c', domain: 'example.com', path: '/' }],
  ['a=b; Path=/x; Path=/y', { path: '/y' }],
  ['a=', { name: 'a', value: '' }],
  ['a', undefined],
  ['=b', undefined],
  ['', undefined],
])('reads %j as a browser does', (header, is) => {
  const cookie = parseSetCookie(header, NOW);
  if (is === undefined) expect(cookie).toBeUndefined();
  else expect(cookie).toMatchObject(is);
});

test.each<[attributes: string, isExpired: boolean]>([
  ['Max-Age=0', true],
  ['max-age=-1', true],
  ['Max-Age=1', false],
  ['Max-Age=soon', false],
  ['Expires=Thu, 01 Jan 1970 00:00:00 GMT', true],
  ['Expires=Thu, 01-Jan-1970 00:00:10 GMT', true],
  ['Expires=Thursday, 01-Jan-70 00:00:10 GMT', true],
  ['Expires=Thu Jan  1 00:00:00 1970', true],
  ['Expires=Wed, 31 Dec 2025 23:59:59 GMT', true],
  ['Expires=Thu, 01 Jan 2026 00:00:01 GMT', false],
  ['Expires=Sun, 06-Nov-69 08:49:37 GMT', false], // 2069
  ['Expires=0', false], // no date, hence no attribute
  ['Expires=-1', false],
  ['Expires=Thu, 01 Jan 1970 99:00:00 GMT', false],
  // No such day.
  ['Expires=Thu, 32 Foo 2026', false],
  ['Expires=Thu, 32 Jan 1970 00:00:00 GMT', false],
  ['Expires=Mon, 30 Feb 1970 00:00:00 GMT', false],
  ['Expires=Tue, 29 Feb 1977 00:00:00 GMT', false],
  ['Expires=Fri, 29 Feb 1980 00:00:00 GMT', true],
  ['Expires=Tue, 31 Jun 1970 00:00:00 GMT', false],
  ['Expires=Thu, 00 Jan 1970 00:00:00 GMT', false],
  ['Expires=Thu, 01 Foo 1970 00:00:00 GMT', false],
  ['Expires=Thu, 01 Jan 1970 24:00:00 GMT', false],
  ['Expires=Thu, 01 Jan 1970 00:60:00 GMT', false],
  ['Expires=Thu, 01 Jan 1600 00:00:00 GMT', false],
  // A year has two to four digits, and every delimiter of RFC 6265 is one.
  ['Expires=Thu, 01 Jan 5 00:00:00 GMT', false],
  ['Expires=Thu, 01 Jan 197 00:00:00 GMT', false],
  ['Expires=Thu, 01 Jan 19700 00:00:00 GMT', false],
  ['Expires=01_Jan_1970_00:00:00', true],
  ['Expires=1970/1/Jan;Expires=1970 1 January 00:00:00', true],
  // An impossible one does not take an earlier one away.
  ['Expires=Thu, 01 Jan 1970 00:00:00 GMT; Expires=Mon, 30 Feb 2026 00:00:00 GMT', true],
  ['Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60', false], // Max-Age counts first
  ['Expires=Tue, 01 Jan 2099 00:00:00 GMT; Max-Age=0', true],
])('a cookie with %s is taken away: %s', (attributes, isExpired) => {
  expect(parseSetCookie(`a=b; ${attributes}`, NOW)?.isExpired).toBe(isExpired);
});
