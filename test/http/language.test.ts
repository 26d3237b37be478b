import { expect, test } from 'vitest';
import { preferredLanguage } from '../../src/http/language.ts';

test.each([
  [undefined, 'en'],
  ['', 'en'],
  ['ja', 'ja'],
  ['JA-jp', 'ja'],
  ['en, ja', 'en'],
  ['ja;q=0.5, en;q=0.6', 'en'],
  ['*', 'en'],
  ['*;q=0.1, ja;q=0.2', 'ja'],
  ['de, *;q=0.5', 'en'],
  ['ja;q=0', 'en'],
  ['ja;q=x', 'en'],
  ['jav', 'en'],
  [`${'x,'.repeat(2_000)}ja`, 'en'],
])('of English and Japanese %s likes %s best', (header, language) => {
  expect(preferredLanguage(header, ['en', 'ja'])).toBe(language);
});
