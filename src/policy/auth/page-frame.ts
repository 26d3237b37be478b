/** The languages of our own pages. */
export type PageLanguage = 'en' | 'ja';

const LANGUAGES: readonly string[] = ['en', 'ja'] satisfies PageLanguage[];

/** What a client prefers of them by `Accept-Language` (RFC 9110 §12.5.4); English where it says nothing. */
export function pageLanguage(acceptLanguage = ''): PageLanguage {
  const ranked = acceptLanguage
    .slice(0, 512)
    .split(',')
    .map(part => {
      const [range = '', ...parameters] = part.trim().toLowerCase().split(';');
      const quality = parameters.map(text => /^\s*q=([\d.]+)\s*$/.exec(text)?.[1]).find(text => text !== undefined);
      return { language: range.split('-')[0]!, quality: Number(quality ?? 1) };
    })
    .filter(({ language, quality }) => LANGUAGES.includes(language) && quality > 0)
    .sort((one, other) => other.quality - one.quality);
  return (ranked[0]?.language ?? 'en') as PageLanguage;
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

/** Text that is no markup, in content and in attributes with quotes. */
export function toText(text: string): string {
  return text.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`);
}
