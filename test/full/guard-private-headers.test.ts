import { afterAll, beforeAll, expect, test } from 'vitest';
import { ask } from '../guard/ask.ts';
import { SeeingBackend } from '../guard/seeing-backend.ts';
import { Served, wires } from '../guard/served.ts';

/** The address that is one of `trustedProxies`. */
const PROXY = '127.0.0.2';
const CLIENT = '127.0.0.1';

const PRIVATE = [
  ...['$WSRA', '$WSRU', '$WSSC', '$WSIS', '$WSCC', '$WSPR', '$wsodr-info', 'WL-Proxy-Client-IP', 'WL-Proxy-SSL'],
  ...['WL-Proxy-Client-Cert', 'WL-Path-Trim', 'X-WebLogic-KeepAliveSecs', 'Client-Cert', 'Client-Cert-Chain'],
  ...['SSL-Client-Cert', 'SSL-Client-S-DN', 'SSL-Cipher', 'SSL-Session-Id', 'X-SSL', 'X-SSL-Client-DN'],
  ...['X-SSL-Client-Verify', 'X-Client-Cert', 'X-Client-Verify', 'X-Client-DN', 'X-Amzn-Mtls-Clientcert'],
  ...['X-ARR-ClientCert', 'Remote-User', 'Remote-Groups', 'Remote-Email', 'X-Remote-User', 'X-Remote-Group'],
  ...['X-Remote-Extra-Scopes', 'X-Auth-Request-User', 'X-Auth-Request-Access-Token', 'X-WEBAUTH-USER'],
  ...['X-WEBAUTH-ROLE', 'X-Authentik-Username', 'X-Authenticated-User', 'X-Goog-Authenticated-User-Email'],
  ...['X-Goog-IAP-JWT-Assertion', 'X-MS-CLIENT-PRINCIPAL', 'X-Amzn-Oidc-Identity', 'X-Consumer-Username'],
  ...['OIDC-CLAIM-sub', 'Shib-Identity-Provider', 'SM-User', 'iv-user', 'Tailscale-User-Login', 'AJP-REMOTE-USER'],
  ...['X-Original-URL', 'X-Original-Host', 'X-Original-Method', 'X-Original-Remote-Addr', 'X-Rewrite-URL'],
  ...['X-Scheme', 'X-Url-Scheme', 'X-Host', 'Front-End-Https', 'X-Script-Name', 'X-Accel-Mapping'],
  ...['X-Cluster-Client-IP', 'X-Envoy-External-Address', 'X-Envoy-Original-Path', 'CF-Connecting-IP', 'CF-Visitor'],
  ...['CF-Access-Jwt-Assertion', 'Fastly-Client-IP', 'True-Client-IP', 'X-Real-IP', 'X-Client-IP', 'Client-IP'],
  ...['X-Forwarded', 'X-Forwarded-Prefix', 'X-Forwarded-Ssl', 'X-Forwarded-User', 'X-Forwarded-Client-Cert'],
  // Content networks and clouds.
  ...['CloudFront-Viewer-Address', 'CloudFront-Forwarded-Proto', 'CloudFront-Is-Mobile-Viewer', 'X-Appengine-User-IP'],
  ...['X-Appengine-Cron', 'X-Vercel-Forwarded-For', 'X-Vercel-IP-Country', 'X-Vercel-OIDC-Token'],
  ...['X-NF-Client-Connection-IP', 'X-NF-Geo', 'Incap-Client-IP', 'Ali-Cdn-Real-IP', 'X-Akamai-Edgescape'],
  ...['Akamai-User-Risk', 'Fastly-FF', 'Fastly-Client', 'X-Azure-FDID', 'X-Azure-ClientIP', 'X-FD-HealthProbe'],
  ...['X-ARR-SSL', 'X-Appservice-Proto', 'Fly-Forwarded-Proto'],
  ...['DO-Connecting-IP', 'EO-Client-IP', 'X-Sucuri-ClientIP'],
  ...['X-Amzn-Tls-Version', 'X-Amzn-Lattice-Identity', 'X-Amzn-Waf-Bot', 'X-Amzn-Ava-User-Context'],
  // The client's address in other words.
  ...['X-ProxyUser-Ip', 'X-True-Client-IP', 'X-RealIP', 'Real-IP', 'X-Forward-For', 'Forwarded-Proto', 'X-Cdn-Src-Ip'],
  ...['X-CF-Connecting-IP', 'X-Envoy-Peer-Metadata', 'X-Istio-Attributes'],
  // Scheme, path, and the variables of CGI.
  ...['X-Forward-Proto', 'X-Proto', 'X-HTTPS', 'HTTPS'],
  ...['X-Override-URL', 'Script-Name', 'PATH_INFO', 'Path-Translated'],
  ...['REQUEST_URI', 'SERVER_NAME', 'AUTH_TYPE', 'AUTH_USER', 'LOGON_USER', 'REMOTE_HOST', 'REMOTE_IDENT'],
  // Certificates.
  ...['X-Client-Certificate', 'X-Client-SSL-Cert', 'TLS-Client-Cert', 'X-Client-Cert-Chain', 'CERT_SUBJECT'],
  ...['X-TLS-Client-S-DN', 'MS-ASPNETCORE-CLIENTCERT'],
  // Users.
  ...['X-Auth-User', 'X-Auth-Username', 'X-Auth-Email', 'X-Auth-Roles'],
  ...['X-Auth-Groups', 'Auth-User', 'X-Remote-Roles'],
  ...['X-Remote-User-Id', 'X-Userinfo', 'X-Apigateway-Api-Userinfo', 'X-Apigateway-Event', 'X-Endpoint-API-UserInfo'],
  ...['X-Jwt-Assertion', 'Teleport-Jwt-Assertion', 'X-Jwt-Payload', 'X-Hasura-Role', 'X-Hasura-User-Id', 'SMUSER'],
  ...['SM_USER', 'iv-remote-address', 'eppn', 'eduPersonPrincipalName', 'X-Consumer-Tags', 'X-Credential-Username'],
  ...['OIDC_access_token', 'MELLON_NAME_ID', 'CAS-User', 'GAP-Auth', 'X-Iisnode-Auth_User', 'OSSO-User-DN'],
  ...['MS-ASPNETCORE-WINAUTHTOKEN', 'X-Proxy-Roles', 'X-MS-Token-AAD-Id-Token', 'Tailscale-User-Name'],
  // The stem of a family, or its beginning and nothing behind.
  ...['X-Authenticated', 'X-WEBAUTH', 'X-WEBAUTH-', 'X-Auth-Request'],
  ...['X-Original', 'X-Original-', 'X-Vouch', 'X-Envoy'],
  ...['SSL', 'CF-', 'Shib', 'OIDC', '$WS', 'WL-'],
  // Asked for by programs that take the name of a CGI variable for that of a header.
  ...['HTTP_CLIENT_IP', 'HTTP_X_FORWARDED_FOR', 'HTTP_FORWARDED', 'HTTP_REMOTE_USER', 'HTTP_X_CLUSTER_CLIENT_IP'],
];

/** What ordinary clients say, among them those of stores whose names are close to private ones. */
const ORDINARY = [
  ...['X-Auth-Token', 'X-Auth-Key', 'X-User-Id', 'X-Client-Version', 'X-Client-Id', 'X-Client-Data'],
  ...['X-Correlation-ID', 'X-Request-Start', 'X-Requested-With', 'X-CSRF-Token', 'X-XSRF-Token', 'X-Api-Key'],
  ...['X-HTTP-Method-Override', 'X-Amz-Date', 'X-Amz-Content-Sha256', 'X-Amz-Security-Token', 'X-Amz-Meta-Owner'],
  ...['X-Amz-User-Agent', 'X-Amzn-Trace-Id', 'X-Goog-Meta-Owner'],
  ...['X-Goog-Hash', 'X-Goog-Api-Client', 'X-Goog-Api-Key'],
  ...['X-Goog-User-Project', 'X-Goog-Resumable', 'X-Cloud-Trace-Context', 'X-CloudTasks-QueueName', 'x-ms-version'],
  ...['x-ms-date', 'x-ms-blob-type', 'x-ms-client-request-id', 'X-Hasura-Admin-Secret', 'X-Vercel-Signature'],
  ...['X-Vercel-Protection-Bypass', 'CDN-Loop', 'Via', 'Traceparent', 'Baggage', 'B3', 'X-B3-TraceId', 'Referer'],
  ...['X-GitHub-Event', 'X-Hub-Signature-256', 'Stripe-Signature', 'CF-Webhook-Auth', 'Tailscale-Webhook-Signature'],
  ...['Sm-Apikey', 'Sm-Signature', 'X-NF-Sign', 'WL-Instance-Id'],
  ...['X-Middleware-Prefetch', 'Next-Action', 'HX-Request'],
  ...['Impersonate-User', 'X-Trino-User', 'X-Scope-OrgID'],
  ...['X-FAPI-Customer-IP-Address', 'Upload-Offset', 'Tus-Resumable'],
  ...['X-Forwarding-Rules', 'X-Hosts', 'X-Schemes', 'X-Authentication-Method', 'X-Account-Email', 'Idempotency-Key'],
];

/** Of one connection, or what says where a message ends: in another spelling nobody may say it at all. */
const OTHER_SPELLINGS = [
  ...['Transfer_Encoding', 'Transfer.Encoding', 'transfer_encoding', 'Keep_Alive', 'Keep.Alive', 'Content_Length'],
  ...['Content.Length', 'Proxy_Authorization', 'Proxy.Authenticate', 'Proxy_Connection', 'HTTP2_Settings'],
];

/** The spellings that one variable of a CGI-like backend has. */
function spellings(name: string): string[] {
  const inner = name.replace(/[^A-Za-z0-9]/g, '_');
  const mixed = inner.replace(/_/, '.').replace(/_/, '-');
  return [name, name.toLowerCase(), name.toUpperCase(), inner, inner.replaceAll('_', '.'), mixed];
}

/** All of them in requests that stay below the limits for a head. */
function* inParts<T>(all: readonly T[], size: number): Generator<readonly T[]> {
  for (let i = 0; i < all.length; i += size) yield all.slice(i, i + size);
}

const routes = [
  'routes:',
  '  - { path: /plain/*, upstream: plain, session: none }',
  '  - { path: /more/*, upstream: more, session: none }',
].join('\n');

let backend: SeeingBackend;
let server: Served;
beforeAll(async () => {
  backend = await SeeingBackend.listen();
  server = await Served.yaml(
    [
      `trustedProxies: [${PROXY}]`,
      'upstreams:',
      `  plain: { servers: ['${backend.url}'] }`,
      '  more:',
      `    servers: ['${backend.url}']`,
      "    removeHeaders: [Authorization, X-Acme-User, 'X-Internal-*']",
      "    passHeaders: [X-Real-IP, 'X-SSL-*']",
      '    userHeader: false',
      routes,
      '',
    ].join('\n'),
  );
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await backend[Symbol.asyncDispose]();
});

const cases = wires.flatMap(wire => [true, false].map(isUpgrade => [wire, isUpgrade] as const));
const described = cases.map(
  ([wire, isUpgrade]) => [`${isUpgrade ? 'an upgrade' : 'a request'} over ${wire}`, wire, isUpgrade] as const,
);

/** Which of these names reached the backend, as they arrived there. */
async function passed(
  names: readonly string[],
  [wire, isUpgrade]: (typeof cases)[number],
  path: string,
  from: string,
): Promise<string[]> {
  const reached: string[] = [];
  for (const part of inParts(names, 60)) {
    const headers = part.flatMap(name => [name, 'forged']);
    const { status } = await ask(server, wire, { path, headers: [...headers, 'X-Harmless', 'kept'], isUpgrade, from });
    expect(status).toBe(isUpgrade ? 101 : 200);
    const [seen] = backend.take();
    const got = new Map<string, string>();
    for (let i = 0; i < seen!.rawHeaders.length; i += 2) got.set(seen!.rawHeaders[i]!, seen!.rawHeaders[i + 1]!);
    expect(got.get('X-Harmless') ?? got.get('x-harmless')).toBe('kept');
    reached.push(...[...got].filter(([, value]) => value.includes('forged')).map(([name]) => name));
  }
  return reached;
}

test.each(described)('no private header of another server passes with %s, in no spelling', async (_, ...how) => {
  expect(await passed(PRIVATE.flatMap(spellings), how, '/plain/a', CLIENT)).toEqual([]);
});

test.each(described)('a trusted proxy has none of them passed with %s that are not listed', async (_, ...how) => {
  expect(await passed(PRIVATE.flatMap(spellings), how, '/plain/a', PROXY)).toEqual([]);
});

test.each(described)('what ordinary clients say passes with %s', async (_, ...how) => {
  const reached = (await passed(ORDINARY, how, '/plain/a', CLIENT)).map(name => name.toLowerCase());
  expect(ORDINARY.filter(name => !reached.includes(name.toLowerCase()))).toEqual([]);
});

test.each(described)(
  'of one connection is what is spelled like a header of one connection, with %s',
  async (_, ...how) => {
    for (const from of [CLIENT, PROXY]) expect(await passed(OTHER_SPELLINGS, how, '/plain/a', from)).toEqual([]);
  },
);

test.each(described)('listed headers pass from a trusted proxy and from nobody else, with %s', async (_, ...how) => {
  const names = ['X-Real-IP', 'X-SSL-Client-DN', 'X-Forwarded-User', 'X-Scheme', 'Remote-User'];
  const lower = async (from: string) => (await passed(names, how, '/more/a', from)).map(name => name.toLowerCase());
  expect(await lower(CLIENT)).toEqual([]);
  // `userHeader: false` lists the header of the user.
  expect(await lower(PROXY)).toEqual(['x-real-ip', 'x-ssl-client-dn', 'x-forwarded-user']);
});

test.each(described)('an upstream gets nothing that its removeHeaders name, with %s', async (_, ...how) => {
  const names = ['Authorization', 'X-Acme-User', 'X_ACME_USER', 'X-Internal-Role', 'x.internal.a', 'X-Acme-Users'];
  names.push('X-Internal-', 'X_Internal_');
  for (const from of [CLIENT, PROXY])
    expect((await passed(names, how, '/more/a', from)).map(name => name.toLowerCase())).toEqual(['x-acme-users']);
});
