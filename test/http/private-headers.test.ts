import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { headerName } from '../../src/http/header-name.ts';
import { PRIVATE_HEADERS } from '../../src/http/private-headers.ts';

test.each([
  ...['X-Forwarded-Prefix', 'X_FORWARDED_SSL', 'X.Forwarded.User', 'X-Forwarded', 'X-Real-Ip', 'True-Client-IP'],
  ...['X-Original-URL', 'X-Rewrite-URL', 'Front-End-Https', '$WSRU', 'wl_proxy_ssl', 'Remote.User'],
  ...['X-Original', 'x_original_', 'SSL', 'Client-IP', 'Any-Client-IP', 'HTTP_X_REAL_IP', 'Forwarded-For-Me'],
  ...['Remote-Users', 'X-Client-Certificate', 'EduPersonAffiliation', 'Userinfo'],
])('%s is what only another server may say', name => {
  expect(headerName(name).isPrivate).toBe(true);
});

test.each([
  ...['X-Requested-With', 'X-Originals', 'X-Forwarding-Rules', 'X-Real', 'Referer', 'Host', 'HTTP_HOST'],
  ...['X-Hosts', 'X-Schemes', 'SSLs', 'RemoteUsers', 'WS-Thing', 'XForwardedFor', 'X-HTTP-Method-Override'],
  ...['Clients-IP', 'MyClient-IP', 'X-Authentication', 'X-Auth-Token', 'X-Hasura-Admin-Secret'],
  ...['CF-Webhook-Auth', 'Tailscale-Webhook-Signature', 'Sm_Signature', 'Sm-Apikey', 'X-NF-Sign', 'WL-Instance-Id'],
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

test('the reference names every one of them, and no other', () => {
  const page = readFileSync(new URL('../../docs/reference/private-headers.md', import.meta.url), 'utf8');
  const [, removed] = page.split(/^## /m);
  const rows = removed!.split('\n').filter(line => line.startsWith('| '));
  const names = Array.from(rows.join('\n').matchAll(/`([^`]+)`/g), ([, name]) => name!.toLowerCase());
  expect(names.map(name => name.replace(/^\$/, '-'))).toEqual(PRIVATE_HEADERS);
});
