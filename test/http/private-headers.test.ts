import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { headerName } from '../../src/http/header-name.ts';
import { PRIVATE_HEADERS } from '../../src/http/private-headers.ts';

test.each([
  ...['X-Forwarded-Prefix', 'X_FORWARDED_SSL', 'X.Forwarded.User', 'X-Forwarded', 'X-Real-Ip', 'True-Client-IP'],
  ...['X-Original-URL', 'X-Rewrite-URL', 'Front-End-Https', '$WSRU', 'wl_proxy_ssl', 'Remote.User'],
])('%s is what only another server may say', name => {
  expect(headerName(name).isPrivate).toBe(true);
});

test.each([
  ...['X-Requested-With', 'X-Original', 'X-Forwarding-Rules', 'Forwarded-For-Me', 'X-Real', 'Referer', 'Host'],
  ...['X-Hosts', 'X-Schemes', 'SSL', 'Remote-Users', 'WS-Thing', 'XForwardedFor', 'X-HTTP-Method-Override'],
])('%s is for anybody to say', name => {
  expect(headerName(name).isPrivate).toBe(false);
});

test.each(['Transfer_Encoding', 'keep.alive', 'PROXY_AUTHORIZATION', 'Content_Length', 'content.length'])(
  '%s concerns one connection',
  name => {
    expect(headerName(name).isHopByHop).toBe(true);
  },
);

test.each(['Content-Length', 'CONTENT-LENGTH', 'Content-Type', 'Keep-Alive-For-Me'])(
  '%s concerns the whole way',
  name => {
    expect(headerName(name).isHopByHop).toBe(false);
  },
);

test('the guide names every one of them', () => {
  const guide = readFileSync(new URL('../../docs/guides/behind-the-gateway.md', import.meta.url), 'utf8');
  const named = new Set(
    [...guide.matchAll(/(?<=[| ])`([^`\n]+)`(?=[, ])/g)].map(([, name]) => name!.toLowerCase().replace(/^\$/, '-')),
  );
  expect(PRIVATE_HEADERS.filter(name => !named.has(name))).toEqual([]);
});
