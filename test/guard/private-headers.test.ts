import { afterAll, beforeAll, expect, test } from 'vitest';
import { ask } from './ask.ts';
import { SeeingBackend } from './seeing-backend.ts';
import { Served, wires } from './served.ts';

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

/** Which of these names reached the backend, in any spelling that folds to one. */
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
  for (const from of [CLIENT, PROXY])
    expect((await passed(names, how, '/more/a', from)).map(name => name.toLowerCase())).toEqual(['x-acme-users']);
});
