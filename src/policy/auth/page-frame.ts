import { hash } from 'node:crypto';
import { toText } from '../../http/html-text.ts';
import { preferredLanguage } from '../../http/language.ts';

/** The languages of our own pages. */
export type PageLanguage = 'en' | 'ja';

/** What a client prefers of them by `Accept-Language`. */
export function pageLanguage(acceptLanguage: string | undefined): PageLanguage {
  return preferredLanguage<PageLanguage>(acceptLanguage, ['en', 'ja']);
}

const STYLE = `:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{margin:0;min-height:100vh;display:grid;place-items:center}
main{width:min(20rem,calc(100vw - 3rem));padding:1.5rem 0}
h1{font-size:1.5rem;margin:0 0 1rem}
ul{list-style:none;padding:0}
label{display:block;margin-top:1rem}
input:not([type=checkbox]){box-sizing:border-box;width:100%;padding:.5rem;font:inherit;border:1px solid #767676;border-radius:.25rem}
button{margin-top:1.5rem;width:100%;padding:.6rem;font:inherit;font-weight:600;color:#fff;background:#1a56b0;border:0;border-radius:.25rem;cursor:pointer}
:focus-visible{outline:3px solid #f59e0b;outline-offset:2px}
[role=alert]{padding:.75rem;border-left:.25rem solid #c62828}
[role=status]{padding:.75rem;border-left:.25rem solid #2e7d32}`;

/** A page of our own: HTML that needs no JavaScript. */
export interface OwnPage {
  readonly language: PageLanguage;
  readonly title: string;
  /** Markup: text goes through `toText` before. */
  readonly content: string;
  /** Further markup of its head. */
  readonly head?: string | undefined;
  /** CSS in the place of ours. */
  readonly style?: string | undefined;
  /** Where its form leads: `site` is this one alone, `anywhere` on to a provider, too. Left out: it has none. */
  readonly form?: 'site' | 'anywhere' | undefined;
}

export function pageOf({ language, title, content, head = '', style = STYLE }: OwnPage): string {
  return `<!doctype html>
<html lang="${language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>${toText(title)}</title>
<style>${style}</style>
${head}</head>
<body>
<main>
<h1>${toText(title)}</h1>
${content}
</main>
</body>
</html>
`;
}

/** Kept by nobody and in no frame; nothing is loaded but what a style names of this site, and nothing runs. */
export function pageHeaders({ language, style = STYLE, form }: OwnPage): Record<string, string> {
  const policy = [
    "default-src 'none'",
    `style-src 'sha256-${hash('sha256', style, 'base64')}'`,
    "img-src 'self' data:",
    "font-src 'self'",
    // It would have to name each provider that a form leads on to.
    ...(form === 'anywhere' ? [] : [`form-action ${form === 'site' ? "'self'" : "'none'"}`]),
    "frame-ancestors 'none'",
    "base-uri 'none'",
  ];
  return {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': policy.join('; '),
    'X-Frame-Options': 'DENY',
    'X-Content-Type-Options': 'nosniff',
    // With `no-referrer` browsers would not say whose form it is.
    'Referrer-Policy': form === undefined ? 'no-referrer' : 'same-origin',
    'Cache-Control': 'no-store',
    'Content-Language': language,
    Vary: 'Accept-Language',
  };
}

/** @throws {Error} when it cannot be put into a page. */
export function checkedStyle(css: string): string {
  if (/<\/style|<!--/i.test(css)) throw new Error('it has "</style" or "<!--" in it, which would end it early');
  return css;
}
