import { toText } from '../../../http/html-text.ts';
import { RETRY_AFTER_S } from '../../../http/refusal.ts';
import { type OwnPage, type PageLanguage, pageHeaders, pageLanguage, pageOf } from '../page-frame.ts';

/** Why a user has not been signed in, as far as they may know. */
export type SignInFailure = 'denied' | 'failed' | 'over' | 'unavailable';

interface Texts {
  readonly title: string;
  readonly failures: Readonly<Record<SignInFailure, string>>;
  readonly again: string;
  readonly next: string;
  readonly signOutTitle: string;
  readonly signOut: string;
}

const TEXTS = {
  en: {
    title: 'Sign in',
    failures: {
      denied: 'You were not signed in.',
      failed: 'You could not be signed in.',
      over: 'This sign-in has taken too long, or was begun in another browser.',
      unavailable: 'Nobody can be signed in at the moment. Please try again in a while.',
    },
    again: 'Sign in again',
    next: 'Continue',
    signOutTitle: 'Sign out',
    signOut: 'Sign out',
  },
  ja: {
    title: 'サインイン',
    failures: {
      denied: 'サインインは行われませんでした。',
      failed: 'サインインできませんでした。',
      over: 'サインインに時間がかかりすぎたか、別のブラウザーで開始されました。',
      unavailable: '現在サインインできません。しばらくしてからもう一度お試しください。',
    },
    again: 'もう一度サインインする',
    next: '続ける',
    signOutTitle: 'サインアウト',
    signOut: 'サインアウト',
  },
} as const satisfies Readonly<Record<PageLanguage, Texts>>;

const STATUS: Readonly<Record<SignInFailure, number>> = { denied: 403, failed: 403, over: 400, unavailable: 503 };

/**
 * A page of our own: nothing that a URL or a provider says stands in it but `again`.
 *
 * @param again Path and query of where to begin anew.
 */
export function failurePage(failure: SignInFailure, again: string, acceptLanguage: string | undefined): Response {
  const language = pageLanguage(acceptLanguage);
  const { title, failures, again: link } = TEXTS[language];
  const headers: Record<string, string> = failure === 'unavailable' ? { 'Retry-After': RETRY_AFTER_S } : {};
  const content = `<p>${failures[failure]}</p>\n<p><a href="${toText(again)}">${link}</a></p>`;
  return show({ language, title, content }, STATUS[failure], headers);
}

/**
 * Goes on by itself. A redirect would come from the provider's page as much as the request before it, and browsers send
 * no cookie with `SameSite=Strict` then.
 */
export function onwardPage(location: string, acceptLanguage: string | undefined): Response {
  const language = pageLanguage(acceptLanguage);
  const { title, next } = TEXTS[language];
  const content = `<p><a href="${toText(location)}">${next}</a></p>`;
  return show({ language, title, content, head: `<meta http-equiv="refresh" content="0; url=${toText(location)}">\n` });
}

/** Asks by a form: what a link of any page could do, is no wish of the user's. */
export function signOutPage(action: string, acceptLanguage: string | undefined): Response {
  const language = pageLanguage(acceptLanguage);
  const { signOutTitle: title, signOut } = TEXTS[language];
  const content = `<form method="post" action="${toText(action)}"><button>${signOut}</button></form>`;
  return show({ language, title, content, form: 'anywhere' });
}

function show(page: OwnPage, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(pageOf(page), { status, headers: { ...pageHeaders(page), ...headers } });
}
