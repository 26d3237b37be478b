/** What the doctor may find, and what to do about it. */
export interface Finding {
  /** What it means, in one sentence. */
  readonly cause: string;
  /** In Holdfast, or where the fault is not that of a server, wherever it is. */
  readonly remedy: string;
  /** Where Apache stands in front. */
  readonly apache?: string;
  /** Where nginx stands in front. */
  readonly nginx?: string;
}

const finding = (cause: string, remedy: string, proxies: Pick<Finding, 'apache' | 'nginx'> = {}): Finding => ({
  cause,
  remedy,
  ...proxies,
});

const RENEW_CERTIFICATE = {
  apache: '`certbot renew`, then `systemctl reload apache2`; check `SSLCertificateFile`',
  nginx: '`certbot renew`, then `nginx -s reload`; check `ssl_certificate`',
};

/** The codes are part of `--json`. Each has its heading in docs/reference/troubleshooting.md. */
export const FINDINGS = {
  'name-unknown': finding(
    'The DNS does not know the host name.',
    'Correct the name in the URL, or add its A or AAAA record. `--connect HOST:PORT` tries a server before its record exists.',
  ),
  'name-unanswered': finding(
    'The DNS of this machine does not answer.',
    'Look at /etc/resolv.conf and at the network of this machine.',
  ),
  'address-dead': finding(
    'The name has several addresses, and not all of them take connections. Some clients need seconds, or fail.',
    'Remove the record of the address that is not served, often the AAAA one, or listen there too: `listen: [{ host: "::" }]`.',
    { apache: 'Listen on both families: `Listen 80` without an address' },
  ),
  'port-closed': finding(
    'The machine is there, and nothing listens on the port.',
    'Start the server, or correct the port: `holdfast serve` prints where it listens. A listener on 127.0.0.1 cannot be reached from elsewhere.',
    { apache: '`systemctl status apache2`, and `Listen 80` or `Listen 443` in ports.conf' },
  ),
  'port-silent': finding(
    'The address does not answer at all: as a rule a firewall drops what is sent.',
    'Open the port where the firewall is (`ufw allow 443/tcp`, the security group of the cloud), and check that the address is right.',
    { apache: '`ufw allow 80/tcp`, `ufw allow 443/tcp`' },
  ),
  unreachable: finding(
    'There is no way to the address from this machine.',
    'Look at the network of this machine, and at firewalls that reject.',
  ),
  'tls-not-spoken': finding(
    'The port does not speak TLS.',
    'Write `ws://`, or give the listener a certificate: `tls: { certificate, key }`.',
    { apache: '`SSLEngine on` in the `<VirtualHost *:443>`, and `a2enmod ssl`', nginx: '`listen 443 ssl;`' },
  ),
  'tls-expected': finding('The port speaks TLS, and the URL does not.', 'Write `wss://`, also in the page.'),
  'tls-version': finding(
    'The server speaks only versions of TLS that clients do not take any more.',
    'Let it speak TLS 1.2 and 1.3; the listeners of Holdfast do.',
    { apache: '`SSLProtocol -all +TLSv1.2 +TLSv1.3`', nginx: '`ssl_protocols TLSv1.2 TLSv1.3;`' },
  ),
  'tls-failed': finding(
    'There is a server, and TLS with it fails.',
    'Look at the log of the server. It may have no certificate for this name, or ciphers that nobody else has.',
    { apache: 'Check `SSLCertificateFile`, `SSLCertificateKeyFile` and `SSLCipherSuite`, and error.log' },
  ),
  'client-certificate-required': finding(
    'The server wants a certificate of the client.',
    'Browsers ask their user for one. Where none is meant, set `clientCertificates: { mode: request }` or leave it out.',
    { apache: '`SSLVerifyClient none`, or only in the `<Location>` that needs it' },
  ),
  'certificate-expired': finding(
    'The certificate is over. Browsers refuse wss:// without a word to the page.',
    'Renew it. Holdfast reads the new file by itself, and `holdfast check` warns two weeks before.',
    RENEW_CERTIFICATE,
  ),
  'certificate-early': finding(
    'The certificate is not valid yet.',
    'Set the clocks of both machines right, or wait for the date.',
  ),
  'certificate-ending': finding(
    'The certificate ends within two weeks; its automatic renewal has not worked, or there is none.',
    'Renew it now, and look at why it did not happen.',
    RENEW_CERTIFICATE,
  ),
  'certificate-name': finding(
    'The certificate is for other names than the one in the URL.',
    'Use a name of the certificate in the URL, or get one for this name.',
    { apache: 'The first `<VirtualHost *:443>` answers names that none has: check `ServerName` and `ServerAlias`' },
  ),
  'certificate-untrusted': finding(
    'No authority that clients trust has signed the certificate; perhaps it is signed with itself.',
    'Use a certificate of a public authority, or name your own with `--ca FILE` here and install it where the clients are.',
    { apache: "Debian's snakeoil certificate is meant for tests: set `SSLCertificateFile` to yours" },
  ),
  'certificate-chain': finding(
    'The server does not send the intermediate certificate. Browsers that know it connect, others do not.',
    'Put the whole chain into the file: the certificate first, then the intermediate ones (`fullchain.pem`).',
    { apache: '`SSLCertificateFile .../fullchain.pem`', nginx: '`ssl_certificate .../fullchain.pem;`' },
  ),
  'not-http': finding(
    'What answers does not speak HTTP.',
    'Correct the port. It may be that of a database, of mail, or of PROXY protocol without TLS.',
  ),
  'no-answer': finding(
    'The connection opens, and the server does not answer in time.',
    'The application hangs, or a proxy waits for a backend that does. Look at its log; `--timeout` waits for longer.',
    { apache: 'Every thread may be taken: `MaxRequestWorkers`, and `ProxyTimeout` is what it waits for a backend' },
  ),
  'cut-before-answer': finding(
    'The connection was cut before an answer.',
    'Look at the log of the server. A firewall, a ban or a load balancer without a healthy server does this too.',
  ),
  redirected: finding(
    'The handshake is redirected. No client of WebSockets follows a redirect.',
    'Use the URL that it leads to, with `wss://` for `https://`. Where it leads to a page to sign in on, the session has ended or its cookie did not arrive.',
    { apache: 'Leave the path of the WebSocket out of the redirect: `RewriteCond %{HTTP:Upgrade} !websocket [NC]`' },
  ),
  'credentials-required': finding(
    'The server lets in only those who sign in.',
    'Give the doctor what a browser would send: `--cookie` or `--header "Authorization: ..."`. Browsers cannot set headers on a handshake: use the session cookie, or `policy.tickets`.',
    {
      apache:
        '`AuthType Basic` asks browsers for a password on the page; the handshake then carries it only on the same origin',
    },
  ),
  forbidden: finding(
    'The server refuses this client, whatever its origin: by address, role, ban or a rule.',
    'The log of Holdfast names the policy (`refused`): look at `policy.addresses`, `policy.roles` and `bans`.',
    { apache: '`Require ip` or `Require all denied` in the `<Location>`; error.log has AH01630' },
  ),
  'origin-refused': finding(
    'The handshake is refused with the origin of its page, and taken without.',
    'Add the origin to `policy.origins`. Where a proxy stands in front, let it keep `Host`, or name it in `trustedProxies`.',
    { apache: '`ProxyPreserveHost On`', nginx: '`proxy_set_header Host $http_host;`' },
  ),
  'origin-open': finding(
    'A browser with this cookie is let in from the page of any site: a foreign page can act as the user.',
    'Allow your own origins only, which Holdfast does by default (`policy.origins`), and set `SameSite=Lax` or `Strict` on the cookie.',
    { apache: '`Access-Control-Allow-Origin` does not help for WebSockets: `SetEnvIf Origin` with `Require env`' },
  ),
  'path-unknown': finding(
    'There is nothing at this path.',
    'Correct the path in the URL, or add a route for it: `routes: [{ path: /socket, upstream: app }]`.',
    {
      apache:
        'No `ProxyPass` covers the path, or another stands before it. Are `proxy` and `proxy_http` enabled (`apachectl -M | grep proxy`)?',
    },
  ),
  'upgrade-lost': finding(
    'The server answers the handshake like any request: a proxy in between does not pass `Upgrade` on, or the path is not that of a WebSocket.',
    'Where Holdfast is the proxy, it passes it on by itself: set `upstream` for the path. Behind a proxy, see its own line.',
    {
      apache:
        '`a2enmod proxy_http` and `ProxyPass /socket http://localhost:3000/socket upgrade=websocket`; before 2.4.47 `a2enmod proxy_wstunnel` and `ws://`. The order counts: the longer path first',
      nginx: '`proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`',
    },
  ),
  'version-refused': finding(
    'The server does not speak version 13 of WebSocket, which every client does.',
    'Update the server: this is a draft of before 2011.',
  ),
  'host-unknown': finding(
    'The server does not know the host name that it is asked for.',
    'Add the name to `hosts` of the listener, and let a proxy in front keep `Host`.',
    {
      apache:
        '`ServerName`, `ServerAlias` and `ProxyPreserveHost On`; names in TLS and `Host` must be of one virtual host',
    },
  ),
  'too-many': finding(
    'The server has a limit, and this address is over it.',
    'Wait, or raise `policy.limits`. Behind a proxy all clients have one address until it is in `trustedProxies`.',
  ),
  'module-missing': finding(
    'The server fails by itself before it asks a backend.',
    'Look at the error log of the server.',
    {
      apache:
        'AH01144, "No protocol handler was valid": `a2enmod proxy_http` (`upgrade=websocket`) or `a2enmod proxy_wstunnel` (`ws://`), then restart. For `wss://` or `https://` backends also `SSLProxyEngine on`',
    },
  ),
  'server-error': finding('The server fails with an error of its own.', 'Look at the log of the application.'),
  'backend-unavailable': finding(
    'The proxy cannot reach the backend: it does not run, or listens elsewhere.',
    'Start the backend. `holdfast check --probe` dials each server of each upstream and says what to do.',
    {
      apache:
        '`ss -tlnp | grep 3000`; after a failure Apache tries again only after `retry=60` seconds: `ProxyPass ... retry=0`',
    },
  ),
  'backend-broken': finding(
    'The proxy reaches the backend, and gets no usable answer: it hangs up, or speaks another protocol (TLS or not).',
    'Check the scheme of the backend (`http://` or `https://`). `holdfast check --probe` looks at it, and at its certificate.',
    {
      apache:
        'error.log says why. `wss://` and `https://` backends need `SSLProxyEngine on` and TLS on the backend; where Apache ends TLS, the backend has `ws://`',
      nginx: 'error.log says why: "connect() failed" is a backend that does not run',
    },
  ),
  'backend-slow': finding(
    'The backend does not answer the proxy in time.',
    'The application hangs, or needs longer than `answerTimeout` and `handshakeTimeout` of the upstream.',
    { apache: '`ProxyTimeout`, or `timeout=` of `ProxyPass`', nginx: '`proxy_read_timeout`' },
  ),
  'answer-wrong': finding(
    'The server answers 101, but not to this handshake.',
    'A cache or a proxy in between gives the answer of another request, or strips headers. Let nothing cache the path of the WebSocket.',
  ),
  refused: finding(
    'The application refuses the handshake.',
    'Its log says why. It may want a header, a subprotocol (`--subprotocol`) or a query that browsers send.',
  ),
  'subprotocol-missing': finding(
    'The server chooses none of the subprotocols that were offered. Chrome closes such a connection, as the standard for browsers says; other clients may keep it.',
    'Let the server choose one (`subprotocols` of an endpoint), or offer none. A proxy must pass `Sec-WebSocket-Protocol` on.',
  ),
  'extension-wrong': finding(
    'The server answers the offer of compression with something that it may not.',
    'Update the server, or switch its compression off.',
  ),
  'closed-at-once': finding(
    'The WebSocket opens, and the server ends it at once.',
    '1008 is a session or a right that is missing, 1011 a fault of the application, 1006 a backend or proxy that went away. Look at the log of the application.',
    { apache: 'Does the backend speak TLS, and the URL of `ProxyPass` not, or the other way round?' },
  ),
  'no-pong': finding(
    'The WebSocket is open, and a ping is not answered.',
    'Something in between holds back what is sent, or the application does not read. Check proxies for buffering.',
    { nginx: '`proxy_buffering off;` does not concern WebSockets: check that `Upgrade` and `Connection` are set' },
  ),
  'protocol-broken': finding(
    'The server sends what is not WebSocket, after a good handshake.',
    'Something in between writes into the stream, or the server is faulty.',
  ),
  'size-cut': finding(
    'The connection is cut, without a close frame, when a message of this size is sent.',
    'A limit of the server or of something in between. Raise `maxMessageSize`, and let it close with 1009.',
    { apache: 'mod_security: `SecWebSocket`-less rules inspect bodies; exclude the path' },
  ),
  'idle-closed': finding(
    'The server closes a WebSocket that is silent for this long.',
    'Send something more often than that, or raise `idleTimeout` of the endpoint or of `websocket` of the route.',
  ),
  'idle-cut': finding(
    'A WebSocket that is silent is cut, without a close frame. One with pings stays: it is a timeout of something in between.',
    'Let the server send pings more often than that: the heartbeat of Holdfast does so by default (`heartbeat`). Or raise the timeout.',
    {
      apache:
        'With mod_proxy_http the larger of `Timeout` and `ProxyTimeout` (60 s) counts, and `timeout=` of `ProxyPass` does not: raise `ProxyTimeout` above the interval of pings',
      nginx: '`proxy_read_timeout` (60 s) above the interval of pings',
    },
  ),
  'lifetime-cut': finding(
    'A WebSocket is cut after this time, also one with pings.',
    'Something in between limits the age of connections: a load balancer, a proxy that reloads. Let the client connect again.',
    { apache: 'A restart ends every WebSocket. `RequestReadTimeout` does not: it is over with the handshake' },
  ),
  'cookie-null': finding(
    'The server sets a session cookie whose value is no session: every client gets the same, or an empty one.',
    'Let the application set its cookie, or Holdfast: `session: { cookie: { name: SESSIONID } }`.',
    {
      apache:
        '`Header set Set-Cookie "SESSIONID=%{SESSION_ID}e"` sends `(null)` to those who bring none, and lets clients choose their session: remove that line',
    },
  ),
  'cookie-secure-on-http': finding(
    'The session cookie is `Secure`, and the page comes by http: browsers do not keep it, and each request is a new session.',
    'Use https and wss. Behind a proxy that ends TLS, name it in `trustedProxies`.',
    { apache: 'Leave `Secure` out of `Header edit Set-Cookie` in `<VirtualHost *:80>`, and redirect to https there' },
  ),
  'cookie-without-secure': finding(
    'The session cookie may travel in the clear: it is not `Secure`.',
    'Set `Secure`, which Holdfast does for https by itself.',
    { apache: '`Header edit Set-Cookie ^(SESSIONID=.*)$ "$1; Secure"`' },
  ),
  'cookie-without-httponly': finding(
    'Scripts of the page can read the session cookie: it is not `HttpOnly`.',
    'Set `HttpOnly`, which Holdfast always does.',
    { apache: '`Header edit Set-Cookie ^(SESSIONID=.*)$ "$1; HttpOnly"`' },
  ),
  'cookie-samesite-none': finding(
    'The session cookie has `SameSite=None` without `Secure`: browsers do not keep it.',
    'Set `Secure`, or `SameSite=Lax`.',
  ),
  'cookie-path': finding(
    'The path of the session cookie does not cover that of the WebSocket: the handshake comes without a session.',
    'Set the path of the cookie to `/`: `session: { cookie: { path: / } }`.',
    { apache: '`ProxyPassReverseCookiePath /app /`' },
  ),
  'cookie-domain': finding(
    'The session cookie is for another domain: browsers do not keep it.',
    'Leave `Domain` out, or correct it.',
    { apache: '`ProxyPassReverseCookieDomain backend.internal example.com`' },
  ),
  'session-not-kept': finding(
    'A client that shows its session cookie gets a new one all the same: each request is a new session.',
    'The server does not know the session: it has several processes and no common store, or the cookie does not reach it. Use one store (`session.store`), or affinity.',
    {
      apache:
        'Does `RequestHeader unset Cookie` or a wrong `RewriteCond %{HTTP:Cookie}` lose it? Several backends need `stickysession=`',
    },
  ),
  'session-unknown': finding(
    'The server answers the cookie that was given with a new session: it does not know it, or no longer.',
    'The session has ended (`idleTimeout`, `absoluteTimeout`), or its store is another one. Sign in again, and give the new cookie.',
    { apache: '`Timeout` and `ProxyTimeout` do not lengthen sessions: that of the application counts' },
  ),
  'session-not-handed-on': finding(
    'A page takes the cookie, and the handshake with the same cookie is refused: the session is lost on the way.',
    'Holdfast hands the session on for both (`X-Session-ID`, or the cookie itself). Let what stands in front pass `Cookie` on at the path of the WebSocket.',
    {
      apache:
        'The `RewriteCond %{HTTP:Cookie}` and `RequestHeader` lines must hold for the path of the WebSocket too, and the name must be that of the cookie; `LogFormat "%{X-Session-ID}i"` shows it',
    },
  ),
} as const satisfies Readonly<Record<string, Finding>>;

export type FindingCode = keyof typeof FINDINGS;
