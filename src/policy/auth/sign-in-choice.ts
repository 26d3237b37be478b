import { toText } from '../../http/html-text.ts';
import { type OwnPage, type PageLanguage, pageLanguage } from './page-frame.ts';

/** A way to sign in, as a page offers it. */
export interface SignInChoice {
  readonly label: string;
  readonly location: string;
}

const TEXTS: Readonly<Record<PageLanguage, { readonly title: string; by(label: string): string }>> = {
  en: { title: 'Sign in', by: label => `Sign in with ${label}` },
  ja: { title: 'サインイン', by: label => `${label} でサインイン` },
};

/** For a route that several pages lead to: a person decides. */
export function signInChoicePage(choices: readonly SignInChoice[], acceptLanguage: string | undefined): OwnPage {
  const language = pageLanguage(acceptLanguage);
  const { title, by } = TEXTS[language];
  const links = choices.map(({ label, location }) => `<li><a href="${toText(location)}">${toText(by(label))}</a>`);
  return { language, title, content: `<ul>\n${links.join('\n')}\n</ul>` };
}
