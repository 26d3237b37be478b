import { type Case, get, handshakeBytes, type Section, startPair, tell } from './comparison.ts';
import { RecordingBackend } from './recording-backend.ts';

const backend = new RecordingBackend('backend');

const withoutPort = (told: string) => told.replaceAll(`127.0.0.1:${backend.port}`, '127.0.0.1:3000');

const path =
  (target: string, bytes = get): Case['observe'] =>
  side =>
    tell(side, backend, bytes(target), { target: true });

/**
 * What a client gets of a header that the backend sends; `HERE` stands for its own address, `PUBLIC` for the client's.
 */
const answered =
  (name: string, value: string): Case['observe'] =>
  async side => {
    // Apache builds links with its own port where the client names none.
    const host = `example.com:${side.port}`;
    const sent = value.replace('HERE', `127.0.0.1:${backend.port}`).replace('PUBLIC', host);
    const bytes = get(`/app/a?header=${encodeURIComponent(`${name}: ${sent}`)}`, [`Host: ${host}`]);
    return withoutPort(await tell(side, backend, bytes, { answer: [name] })).replaceAll(host, 'example.com');
  };

const asCookie = (value: string) => answered('Set-Cookie', value);
const asLink = (value: string) => answered('Location', value);

const segments = 'paths end where a segment ends';
const wholeLink = 'the client does not have that path, whichever form the link has';
const publicName = 'a backend that knows the public name (we keep `Host`) does not know the public path';

export const rewriting: Section = {
  title: 'Paths, links and cookies of a backend that knows others',
  intro: `The backend has \`/inner\`, clients \`/app\`. Apache: \`ProxyPass /app http://127.0.0.1:3000/inner\`, \`ProxyPassReverse\` of the same,
\`ProxyPassReverseCookiePath /inner /app\`, \`ProxyPassReverseCookieDomain backend.test example.com\`; gateway: \`path: /app/*\`, \`rewrite: /inner\`.`,
  async start() {
    const url = `http://127.0.0.1:${(await backend.listen()).port}`;
    return startPair(
      {
        vhost: `
          ProxyPass /app ${url}/inner upgrade=websocket
          ProxyPassReverse /app ${url}/inner
          ProxyPassReverseCookiePath /inner /app
          ProxyPassReverseCookieDomain backend.test example.com`,
      },
      {
        upstreams: { app: { servers: [url] } },
        routes: [{ path: '/app/*', upstream: 'app', rewrite: '/inner' }],
      },
      [backend],
    );
  },
  cases: [
    { title: '`/app/a?x=1`', observe: path('/app/a?x=1') },
    { title: '`/app/a?x=1`; a handshake', observe: path('/app/a?x=1', handshakeBytes) },
    { title: '`/app`', observe: path('/app') },
    { title: '`/app/`', observe: path('/app/') },
    { title: '`/app/a%20b`', observe: path('/app/a%20b') },
    { title: '`/app/../inner/a`', observe: path('/app/../inner/a') },
    { title: '`/inner/a`', observe: path('/inner/a') },
    { title: '`Location: http://127.0.0.1:3000/inner/login?x=1`', observe: asLink('http://HERE/inner/login?x=1') },
    { title: '`Location: http://127.0.0.1:3000/inner`', observe: asLink('http://HERE/inner') },
    { title: '`Location: /inner/login`', observe: asLink('/inner/login'), why: wholeLink },
    {
      title: '`Location: http://example.com/inner/login`',
      observe: asLink('http://PUBLIC/inner/login'),
      why: publicName,
    },
    {
      title: '`Location: https://example.com/inner/login`, of a client without TLS',
      observe: asLink('https://PUBLIC/inner/login'),
      why: 'as above; a change of the scheme is meant, on both sides',
    },
    { title: '`Location: /other/login`', observe: asLink('/other/login') },
    { title: '`Location: http://127.0.0.1:3000/other`', observe: asLink('http://HERE/other') },
    { title: '`Location: http://127.0.0.1:3000/innermost`', observe: asLink('http://HERE/innermost'), why: segments },
    { title: '`Location: login`', observe: asLink('login') },
    { title: '`Location: https://other.test/inner/login`', observe: asLink('https://other.test/inner/login') },
    { title: '`Location: /app/login`', observe: asLink('/app/login') },
    {
      title: '`Content-Location: http://127.0.0.1:3000/inner/a.de`',
      observe: answered('Content-Location', 'http://HERE/inner/a.de'),
    },
    {
      title: '`Refresh: 5; url=http://127.0.0.1:3000/inner/a`',
      observe: answered('Refresh', '5; url=http://HERE/inner/a'),
      why: 'it is a link as `Location` is one',
    },
    {
      title: '`Link: <http://127.0.0.1:3000/inner/a>; rel=next`',
      observe: answered('Link', '<http://HERE/inner/a>; rel=next'),
    },
    { title: '`Set-Cookie: a=1; Path=/inner`', observe: asCookie('a=1; Path=/inner') },
    {
      title: '`Set-Cookie: a=1; Path=/inner/deep; HttpOnly`',
      observe: asCookie('a=1; Path=/inner/deep; HttpOnly'),
      why: 'the rest of the path stays: a cookie of `/deep` is none of everything',
    },
    { title: '`Set-Cookie: a=1; Path=/innermost`', observe: asCookie('a=1; Path=/innermost'), why: segments },
    { title: '`Set-Cookie: a=1; Path=/`', observe: asCookie('a=1; Path=/') },
    { title: '`Set-Cookie: a=1`', observe: asCookie('a=1') },
    {
      title: '`Set-Cookie: a=1; Domain=backend.test`',
      observe: asCookie('a=1; Domain=backend.test'),
      why: 'a cookie without a domain is one of this host only, and nothing has to be configured',
    },
    {
      title: '`Set-Cookie: a=1; Domain=elsewhere.test`',
      observe: asCookie('a=1; Domain=elsewhere.test'),
      why: 'a browser would not take it',
    },
    { title: '`Set-Cookie: a=1; Domain=example.com`', observe: asCookie('a=1; Domain=example.com') },
  ],
};
