/**
 * Headers by which one server tells the next what only it can know, folded; `*` stands for one character or more.
 *
 * Programs believe them whoever sends them, so a client must not. The guide `behind-the-gateway.md` names them all.
 */
export const PRIVATE_HEADERS: readonly string[] = [
  // Who the client is.
  ...['x-forwarded', 'x-forwarded-*', 'forwarded-for', 'x-real-ip', 'x-client-ip', 'client-ip', 'true-client-ip'],
  ...['x-cluster-client-ip', 'x-originating-ip', 'x-remote-ip', 'x-remote-addr', 'remote-addr', 'x-envoy-*', 'cf-*'],
  ...['fastly-client-*', 'fastly-ssl', 'fly-client-ip', 'x-azure-clientip', 'x-azure-socketip', 'x-arr-*'],
  // By which scheme, host, method or path it came.
  ...['x-scheme', 'x-url-scheme', 'front-end-https', 'x-host', 'x-http-host-override', 'x-original-*', 'x-rewrite-url'],
  ...['x-replaced-path', 'x-script-name', 'x-accel-*', 'x-sendfile-type', 'x-middleware-subrequest'],
  // Which certificate it has shown.
  ...['client-cert', 'client-cert-*', 'ssl-*', 'x-ssl', 'x-ssl-*', 'x-client-cert', 'x-client-cert-*', 'x-client-dn'],
  ...['x-client-verify', 'x-tls-client-*', 'x-amzn-mtls-*'],
  // Who has signed in.
  ...['remote-user', 'remote-name', 'remote-email', 'remote-group', 'remote-groups', 'x-remote-user', 'x-remote-uid'],
  ...['x-remote-name', 'x-remote-email', 'x-remote-group', 'x-remote-groups', 'x-remote-extra-*', 'x-proxy-user'],
  ...['x-proxy-remote-user', 'auth-request-*', 'x-auth-request-*', 'x-webauth-*', 'x-authenticated-*', 'x-authentik-*'],
  ...['x-pomerium-*', 'x-vouch-*', 'x-goog-authenticated-user-*', 'x-goog-iap-*', 'x-ms-client-principal'],
  ...['x-ms-client-principal-*', 'x-ms-token-*', 'x-amzn-oidc-*', 'x-consumer-id', 'x-consumer-username'],
  ...[
    'x-consumer-custom-id',
    'x-consumer-groups',
    'x-credential-identifier',
    'x-anonymous-consumer',
    'oidc-*',
    'mellon-*',
  ],
  ...['shib-*', 'ajp-*', 'sm-*', 'iv-user', 'iv-user-l', 'iv-groups', 'iv-creds', 'oam-*', 'tailscale-*'],
  // The plug-ins of WebSphere (`$WSRU`) and WebLogic.
  ...['-ws*', 'wl-*', 'x-weblogic-*'],
];

/** A name, or the beginning of one with `*` behind it, in the form of the list above. */
export function foldPattern(name: string): string {
  return name.endsWith('*') ? `${foldName(name.slice(0, -1))}*` : foldName(name);
}

/** The form in which all spellings of a name are the same. */
export function foldName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '-');
}

/** Names, of which those that end in `*` stand for every longer one that begins so, as one expression for folded names. */
export function namePatterns(names: readonly string[]): RegExp {
  return new RegExp(`^(?:${names.map(name => name.replace(/\*$/, '.+')).join('|')})$`);
}
