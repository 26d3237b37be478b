import { preferredLanguage } from '../../http/language.ts';

/** The languages of our own pages. */
export type PageLanguage = 'en' | 'ja';

/** What a client prefers of them by `Accept-Language`. */
export function pageLanguage(acceptLanguage: string | undefined): PageLanguage {
  return preferredLanguage<PageLanguage>(acceptLanguage, ['en', 'ja']);
}

/** Of every page: kept by nobody, in no frame, without anything that it would have to load. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'Content-Type': 'text/html; charset=utf-8',
  'Cache-Control': 'no-store',
  // Forms of these pages can lead on to a provider, which form-action would have to name.
  'Content-Security-Policy': "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

/** @param content Markup, as are `title` and `head`: text goes through `toText` before. */
export function pageOf(language: PageLanguage, title: string, content: string, head = ''): string {
  return `<!doctype html>
<html lang="${language}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
${head}
<h1>${title}</h1>
${content}
`;
}
