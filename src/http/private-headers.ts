/**
 * Headers by which one server tells the next what only it can know, folded. Programs believe them from any sender, so
 * a client must not send them. The reference page `private-headers.md` names them all, and says what is left out and
 * why.
 *
 * `*` stands for anything or nothing, and the `-` beside it is there only with something behind or before it:
 * `x-webauth-*` is `X-WEBAUTH` as well, and `*-client-ip` is `Client-IP`. `(x-)` stands for a name with and without it.
 * Every name is meant with `HTTP_` in front, too: programs that take the name of a CGI variable for that of a header
 * ask for it so.
 */
export const PRIVATE_HEADERS: readonly string[] = [
  // Who the client is.
  ...['(x-)forwarded', '(x-)forwarded-*', '(x-)forward-*', '*-client-ip', '*-clientip', '*-real-ip', '*-realip'],
  ...['*-remote-ip', '*-remote-addr', '*-connecting-ip', '*-connection-ip'],
  ...['*-originating-ip', '*-src-ip', '*user-ip'],
  ...['x-client-port', 'x-client-address', 'x-custom-ip-authorization', 'x-envoy-*', 'x-istio-*', 'l5d-client-id'],
  ...['cf-*', 'cloudfront-*', 'fastly-client-*', 'fastly-ssl', 'fastly-ff', 'fastly-temp-xff'],
  ...['fly-forwarded-*', 'fly-region', 'fly-replay-src', '(x-)akamai-*', 'incap-*', 'x-sucuri-*', 'ali-cdn-*'],
  ...['x-azure-*', 'x-fd-*', 'x-arr-*', 'x-appengine-*', 'x-nf-*', 'x-vercel-forwarded-for', 'x-vercel-proxied-for'],
  ...['x-vercel-ip-*', 'x-vercel-ja3-digest', 'x-vercel-ja4-digest', 'x-vercel-oidc-token', 'x-vercel-sc-*'],
  ...['x-vercel-internal-*', 'x-vercel-proxy-*', 'x-amzn-waf-*', 'x-amzn-lattice-*'],
  // By which scheme, host, method or path it came.
  ...['(x-)scheme', '(x-)url-scheme', '(x-)proto', '(x-)https', 'x-client-proto', 'x-client-scheme', 'clientprotocol'],
  ...['front-end-https', 'x-appservice-proto', 'x-amzn-tls-*', 'x-host', 'x-http-host-override', 'disguised-host'],
  ...['was-default-hostname', 'x-http-path-override', 'x-original-*', 'x-override-url', 'x-rewrite-url'],
  ...['x-replaced-path', 'x-waws-unencoded-url', '(x-)script-name', '(x-)script-filename', '(x-)path-info'],
  ...['(x-)path-translated', '(x-)request-uri', '(x-)request-method', '(x-)request-scheme', '(x-)query-string'],
  ...['(x-)server-name', '(x-)server-port', '(x-)server-protocol', 'document-root', 'x-accel-*', 'x-sendfile-type'],
  ...['x-middleware-subrequest-*'],
  // Which certificate it has shown.
  ...['*client-cert-*', '*client-certificate-*', '*-clientcert-*', '*client-ssl-cert'],
  ...['*client-s-dn', '*client-i-dn', '*client-dn', '*client-verify'],
  ...['(x-)ssl-*', '(x-)tls-client-*', 'cert-subject', 'cert-issuer'],
  ...['cert-serialnumber', 'cert-flags', 'cert-cookie'],
  ...['x-amzn-mtls-*', 'ms-aspnetcore-*', 'x-iis-windowsauthtoken', 'x-iisnode-*'],
  // The user who has signed in.
  ...['*-remote-user', '(x-)remote-*', '(x-)auth-user*', '(x-)auth-email', '(x-)auth-mail', '(x-)auth-name'],
  ...['(x-)auth-group', '(x-)auth-groups', '(x-)auth-role', '(x-)auth-roles', '(x-)auth-subject', '(x-)auth-audience'],
  ...['(x-)auth-type', '(x-)auth-request-*', '(x-)logon-user', 'x-proxy-user', 'x-proxy-roles', 'x-proxy-ext-*'],
  ...['x-webauth-*', 'x-authenticated-*', 'x-authentik-*', 'x-pomerium-*', 'x-vouch-*', 'gap-auth', 'gap-signature'],
  ...['*-userinfo', '*-jwt-assertion', 'x-jwt-payload', 'x-jwt-claim-*', 'x-jwt-claims', 'x-apigateway-*'],
  ...['x-goog-authenticated-user-*', 'x-goog-iap-*', 'x-ms-client-principal-*', 'x-ms-token-*', 'x-amzn-oidc-*'],
  ...['x-amzn-ava-*', 'x-consumer-*', 'x-credential-*', 'x-anonymous-consumer', 'x-identity-status', 'x-hasura-*'],
  ...['oidc-*', 'mellon-*', 'cas-*', 'shib-*', 'eppn', 'eduperson*', 'affiliation', 'unscoped-affiliation'],
  ...['primary-affiliation', 'entitlement', 'persistent-id', 'targeted-id', 'pairwise-id', 'subject-id', 'ajp-*'],
  ...['sm-*', 'smuser', 'iv-user', 'iv-user-l', 'iv-groups', 'iv-creds', 'iv-remote-address', 'iv-remote-address-*'],
  ...['iv-server-name', 'oam-*', 'osso-*', 'tailscale-*'],
  // The plug-ins of WebSphere (`$WSRU`) and WebLogic.
  ...['-ws*', 'wl-*', 'x-weblogic-*'],
];

/**
 * Of these families what clients say themselves. It proves itself: Hasura's password, the secrets and signatures of
 * services that call the application (Cloudflare, Tailscale, SurveyMonkey, Netlify), and the token by which Worklight
 * knows pages for its own.
 */
const PUBLIC: ReadonlySet<string> = new Set([
  ...['x-hasura-admin-secret', 'cf-webhook-auth', 'tailscale-webhook-signature', 'sm-apikey', 'sm-signature'],
  ...['x-nf-sign', 'wl-instance-id'],
]);

const PRIVATE = new RegExp(`^(?:http-)?(?:${PRIVATE_HEADERS.map(expression).join('|')})$`);

/** May only another server say it? */
export function isPrivate(folded: string): boolean {
  return PRIVATE.test(folded) && !PUBLIC.has(folded);
}

function expression(name: string): string {
  return name
    .replace(/^\(x-\)/, '(?:x-)?')
    .replace(/^\*-/, '(?:.*-)?')
    .replace(/-\*$/, '(?:-.*)?')
    .replace(/^\*/, '.*')
    .replace(/\*$/, '.*');
}

/** A name, or the beginning of one with `*` behind it, in the form of the list above. */
export function foldPattern(name: string): string {
  return name.endsWith('*') ? `${foldName(name.slice(0, -1))}*` : foldName(name);
}

/** The form in which all spellings of a name are the same. */
export function foldName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '-');
}

/** Names, of which those that end in `*` stand for every one that begins so, as one expression for folded names. */
export function namePatterns(names: readonly string[]): RegExp {
  return new RegExp(`^(?:${names.map(name => name.replace(/\*$/, '.*')).join('|')})$`);
}
