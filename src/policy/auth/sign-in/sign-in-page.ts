import { toText } from '../../../http/html-text.ts';
import { type OwnPage, type PageLanguage, pageHeaders, pageLanguage, pageOf } from '../page-frame.ts';

/** What a page says besides its form. */
export type Message = 'failed' | 'expired' | 'busy' | 'too-many' | 'signed-out';

const TEXTS = {
  en: {
    signIn: 'Sign in',
    signOut: 'Sign out',
    user: 'User name',
    password: 'Password',
    remember: 'Keep me signed in on this device',
    failed: 'The user name or the password is not right.',
    expired: 'The page was open for too long, or the browser keeps no cookies. Please try again.',
    busy: 'Nobody can be signed in at the moment. Please try again in a few seconds.',
    'too-many': 'You are signed in too many times. Please sign out elsewhere first.',
    'signed-out': 'You have signed out.',
  },
  ja: {
    signIn: 'サインイン',
    signOut: 'サインアウト',
    user: 'ユーザー名',
    password: 'パスワード',
    remember: 'この端末でサインインしたままにする',
    failed: 'ユーザー名またはパスワードが正しくありません。',
    expired: 'ページを開いてから時間が経ちすぎたか、ブラウザーで Cookie が無効になっています。もう一度お試しください。',
    busy: '現在サインインできません。数秒後にもう一度お試しください。',
    'too-many': 'サインインの数が上限に達しています。先にほかの端末でサインアウトしてください。',
    'signed-out': 'サインアウトしました。',
  },
} as const satisfies Record<
  PageLanguage,
  Record<Message | 'signIn' | 'signOut' | 'user' | 'password' | 'remember', string>
>;

/** What an operator may change of the pages. */
export interface PageTheme {
  /** Default: what the page is for. */
  readonly title?: string | undefined;
  /** CSS in the place of ours. */
  readonly style?: string | undefined;
}

export interface SignInForm {
  readonly kind: 'sign-in';
  readonly action: string;
  readonly token: string;
  /** The page that was asked for. */
  readonly next: string | undefined;
  /** With a checkbox for it. */
  readonly canBeRemembered: boolean;
}

export interface SignOutForm {
  readonly kind: 'sign-out';
  readonly action: string;
  readonly token: string;
}

/** Our own pages to sign in and out on: HTML that needs no JavaScript. */
export class SignInPages {
  readonly #theme: () => PageTheme;

  /** @param theme Asked for each page: its style may have changed. */
  constructor(theme: () => PageTheme) {
    this.#theme = theme;
  }

  /** @param cookie For `Set-Cookie`. */
  show(
    form: SignInForm | SignOutForm,
    {
      acceptLanguage,
      message,
      status = 200,
      headers = {},
    }: {
      readonly acceptLanguage: string | undefined;
      readonly message?: Message | undefined;
      readonly status?: number;
      readonly headers?: Readonly<Record<string, string>>;
    },
  ): Response {
    const language = pageLanguage(acceptLanguage);
    const texts = TEXTS[language];
    const { title = form.kind === 'sign-in' ? texts.signIn : texts.signOut, style } = this.#theme();
    const isProblem = message !== 'signed-out';
    const said = message ? `<p id="message" role="${isProblem ? 'alert' : 'status'}">${texts[message]}</p>\n` : '';
    const fields = form.kind === 'sign-in' ? signInFields(form, texts, message) : `<button>${texts.signOut}</button>`;
    const content = `${said}<form method="post" action="${toText(form.action)}">
<input type="hidden" name="token" value="${toText(form.token)}">
${fields}
</form>`;
    const page: OwnPage = { language, title, content, style, form: 'site' };
    return new Response(pageOf(page), { status, headers: { ...headers, ...pageHeaders(page) } });
  }
}

function signInFields(
  { next, canBeRemembered }: SignInForm,
  texts: (typeof TEXTS)[PageLanguage],
  message: Message | undefined,
): string {
  const about = message === 'failed' ? ' aria-describedby="message"' : '';
  return [
    ...(next === undefined ? [] : [`<input type="hidden" name="next" value="${toText(next)}">`]),
    `<label for="user">${texts.user}</label>`,
    `<input id="user" name="j_username" autocomplete="username" autocapitalize="none" spellcheck="false" required${about}>`,
    `<label for="password">${texts.password}</label>`,
    `<input id="password" name="j_password" type="password" autocomplete="current-password" required${about}>`,
    ...(canBeRemembered
      ? [`<label><input type="checkbox" name="remember" value="yes"> ${texts.remember}</label>`]
      : []),
    `<button>${texts.signIn}</button>`,
  ].join('\n');
}
