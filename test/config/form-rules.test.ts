import { describe, expect, test } from 'vitest';
import { problemsOf } from './problems-of.ts';

const fetch = () => new Response();

describe('a login by form', () => {
  const form = (more: object) => ({ auth: { login: { type: 'form', ...more } }, routes: [] });
  const verify = () => true;

  test('with a file or a function, and pages of its own, has no problem', () => {
    expect(problemsOf(form({ file: 'users', page: { title: 'Staff', style: 'a.css' } }))).toEqual([]);
    expect(
      problemsOf(
        form({ verify, timeout: '2s', loginPage: '/in?x', errorPage: '/err', paths: { login: '/j_security_check' } }),
      ),
    ).toEqual([]);
  });

  test.each<[string, object, string]>([
    ['no users', {}, 'auth.login: has no users; name a password file under "file", or a function under "verify"'],
    ['two kinds of users', { file: 'u', verify }, 'auth.login.verify: stands beside "file"'],
    ['a time for nothing', { file: 'u', timeout: '1s' }, 'auth.login.timeout: is that of "verify"'],
    ['a time without end', { verify, timeout: -1 }, 'auth.login.timeout: needs a limit'],
    ['a page of errors alone', { file: 'u', errorPage: '/e' }, 'auth.login.errorPage: is shown beside'],
    [
      'a page elsewhere',
      { file: 'u', loginPage: 'https://x.example/' },
      'auth.login.loginPage: "https://x.example/" is not a path',
    ],
    [
      'a page on another host',
      { file: 'u', landingPage: '//x.example/' },
      'auth.login.landingPage: "//x.example/" is not a path',
    ],
    ['a pattern', { file: 'u', paths: { login: '/in/*' } }, 'auth.login.paths.login: "/in/*" is not one path'],
    ['one path twice', { file: 'u', paths: { logout: '/login' } }, 'auth.login.paths.logout: "/login" is another page'],
    [
      'a group that nobody is in',
      { file: 'u', roles: { a: ['group:b'] } },
      'auth.login.roles.a[0]: nobody is in the group "b"',
    ],
  ])('%s is an error', (_, more, problem) => {
    expect(problemsOf(form(more))[0]).toContain(problem);
  });

  test('needs a session, and gives roles that the function may say', () => {
    const routed = (scheme: object, more: object = {}) => ({
      auth: { login: { type: 'form', ...scheme } },
      routes: [{ path: '/x', fetch, policy: { auth: 'login', roles: ['a'] }, ...more }],
    });
    expect(problemsOf(routed({ verify }))).toEqual([]);
    expect(problemsOf(routed({ file: 'u' }))[0]).toContain('no user can have the role "a"');
    expect(problemsOf(routed({ verify }, { session: 'none' }))[0]).toContain('a session keeps who has signed in');
  });
});
