import { expect, test } from 'vitest';
import { preferredMediaType } from '../../src/http/media.ts';
import { isDocumentNavigation } from '../../src/http/navigation.ts';
import { receiveGoodHead } from './receive-head.ts';

const browserAccept = 'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8';

test.each([
  ['a page opened in a browser', 'GET', ['Sec-Fetch-Dest: document', browserAccept], true],
  ['a form sent in a browser', 'POST', ['Sec-Fetch-Dest: document', browserAccept], true],
  ['a frame', 'GET', ['Sec-Fetch-Dest: iframe', browserAccept], false],
  ['a fetch', 'GET', ['Sec-Fetch-Dest: empty', 'Accept: text/html'], false],
  ['an image', 'GET', ['Sec-Fetch-Dest: image', 'Accept: image/*'], false],
  ['a page in a browser that sends no Sec-Fetch-Dest', 'GET', [browserAccept], true],
  ['a form in a browser that sends no Sec-Fetch-Dest', 'POST', [browserAccept], false],
  ['curl', 'GET', ['Accept: */*'], false],
  ['a request without Accept', 'GET', [], false],
  ['an API client that also takes HTML', 'GET', ['Accept: application/json, text/html;q=0.5'], false],
])('%s (%s %j): %s', async (_case, method, headers, isNavigation) => {
  const head = await receiveGoodHead([`${method} / HTTP/1.1`, 'Host: a', ...headers]);
  expect(isDocumentNavigation(head)).toBe(isNavigation);
});

test.each([
  ['text/html', 'text/html'],
  ['TEXT/HTML; charset=utf-8', 'text/html'],
  ['a/b;q=0.2, c/d;q=0.8;x=1, e/f;q=0.8', 'c/d'],
  ['a/b;q=0', undefined],
  ['a/b;q=x', undefined],
  ['', undefined],
  [undefined, undefined],
])('Accept: %s likes %s best', (accept, type) => expect(preferredMediaType(accept)).toBe(type));
