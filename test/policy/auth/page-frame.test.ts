import { hash } from 'node:crypto';
import { expect, test } from 'vitest';
import { failurePage, onwardPage, signOutPage } from '../../../src/policy/auth/oidc/page.ts';
import { type OwnPage, pageHeaders, pageOf } from '../../../src/policy/auth/page-frame.ts';
import { SignInPages } from '../../../src/policy/auth/sign-in/sign-in-page.ts';
import { signInChoicePage } from '../../../src/policy/auth/sign-in-choice.ts';

const responseOf = (page: OwnPage) => new Response(pageOf(page), { headers: pageHeaders(page) });
const signIn = (style?: string) =>
  new SignInPages(() => ({ style })).show(
    { kind: 'sign-in', action: '/check', token: 't', next: undefined, canBeRemembered: false },
    { acceptLanguage: 'ja' },
  );

const pages: [string, () => Response, string | undefined][] = [
  ['to sign in on', () => signIn(), "form-action 'self'"],
  ['to sign in on, with a style of the operator’s', () => signIn('p{}'), "form-action 'self'"],
  [
    'that offers several ways',
    () => responseOf(signInChoicePage([{ label: 'a', location: '/a' }], 'ja')),
    "form-action 'none'",
  ],
  ['that says what has failed', () => failurePage('failed', '/again', 'ja'), "form-action 'none'"],
  ['that leads on', () => onwardPage('/next', 'ja'), "form-action 'none'"],
  ['to sign out on, which leads on to a provider', () => signOutPage('/out', 'ja'), undefined],
];

test.each(pages)(
  'the page %s is in no frame or cache, runs nothing, and loads its own style alone',
  async (_, page, formAction) => {
    const response = page();
    const body = await response.text();
    const [, style] = /<style>([\s\S]*)<\/style>/.exec(body)!;
    const policy = response.headers.get('content-security-policy')!.split('; ');
    expect(policy).toEqual(
      expect.arrayContaining([
        "default-src 'none'",
        `style-src 'sha256-${hash('sha256', style!, 'base64')}'`,
        "frame-ancestors 'none'",
        "base-uri 'none'",
      ]),
    );
    expect(policy.find(directive => directive.startsWith('form-action'))).toBe(formAction);
    expect(body).toContain('<html lang="ja">');
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'x-frame-options': 'DENY',
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
      'content-language': 'ja',
      vary: 'Accept-Language',
      'referrer-policy': body.includes('<form') ? 'same-origin' : 'no-referrer',
    });
  },
);
