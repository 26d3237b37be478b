import { type Case, get, type Section, startPair, tell } from './comparison.ts';
import { RecordingBackend } from './recording-backend.ts';

const backend = new RecordingBackend('backend');

const path =
  (target: string): Case['observe'] =>
  side =>
    tell(side, backend, get(target), { target: true });

const untrusted = 'what backends read in different ways is refused';

export const matching: Section = {
  title: 'Paths',
  intro: `Gateway: \`/socket/*\` and \`/app/*\` lead to one backend. Apache: \`ProxyPass /socket http://…/socket\` and \`ProxyPass /app http://…/app\`.`,
  async start() {
    await backend.listen();
    const url = `http://127.0.0.1:${backend.port}`;
    return startPair(
      {
        vhost: `
          ProxyPass /socket ${url}/socket
          ProxyPass /app ${url}/app
          ProxyPass /first/second ${url}/long
          ProxyPass /first ${url}/short
          ProxyPass /last ${url}/short
          ProxyPass /last/second ${url}/long`,
      },
      {
        upstreams: { app: { servers: [url] } },
        routes: [
          { path: '/socket/*', upstream: 'app' },
          { path: '/app/*', upstream: 'app' },
          { path: '/first/second/*', upstream: 'app', rewrite: '/long' },
          { path: '/first/*', upstream: 'app', rewrite: '/short' },
          { path: '/last/*', upstream: 'app', rewrite: '/short' },
          { path: '/last/second/*', upstream: 'app', rewrite: '/long' },
        ],
      },
      [backend],
    );
  },
  cases: [
    { title: '`/socket`', observe: path('/socket') },
    { title: '`/socket/`', observe: path('/socket/') },
    { title: '`/socket?`', observe: path('/socket?'), why: 'an empty query is no query' },
    { title: '`/socket/foo?x=1&y=%2F`', observe: path('/socket/foo?x=1&y=%2F') },
    { title: '`/socketfoo`', observe: path('/socketfoo') },
    { title: '`/SOCKET`', observe: path('/SOCKET') },
    { title: '`/other`', observe: path('/other') },
    {
      title: '`/socket;x=1`',
      observe: path('/socket;x=1'),
      why: 'a path parameter is no part of what a route matches, and goes to the backend as it is (Apache: `mapping=servlet`)',
    },
    { title: '`/socket/a;x=1`', observe: path('/socket/a;x=1') },
    { title: '`//socket`', observe: path('//socket') },
    { title: '`/socket//a`', observe: path('/socket//a') },
    { title: '`/%73ocket`', observe: path('/%73ocket') },
    { title: '`/socket/../app`', observe: path('/socket/../app') },
    { title: '`/socket/%2e%2e/app`', observe: path('/socket/%2e%2e/app') },
    { title: '`/socket/./a`', observe: path('/socket/./a') },
    {
      title: '`/../socket`',
      observe: path('/../socket'),
      why: 'RFC 3986 §5.2.4: above the root there is nothing to leave',
    },
    { title: '`/socket%2f..%2fapp`', observe: path('/socket%2f..%2fapp') },
    {
      title: '`/socket/a%2fb`',
      observe: path('/socket/a%2fb'),
      why: 'an escaped slash is text of a segment, and stays escaped (Apache: `AllowEncodedSlashes NoDecode`)',
    },
    { title: '`/socket/..;/app`', observe: path('/socket/..;/app'), why: untrusted },
    { title: '`/socket/..\\app`', observe: path('/socket/..\\app'), why: untrusted },
    {
      title: '`/socket/%00`',
      observe: path('/socket/%00'),
      why: 'no path at all, hence not one that was not found',
    },
    { title: '`/socket/%zz`', observe: path('/socket/%zz') },
    { title: '`/socket/%41%7E`', observe: path('/socket/%41%7E') },
    { title: '`/socket/a%20b%5B`', observe: path('/socket/a%20b%5B') },
    {
      title: '`/socket/straße` as bytes of UTF-8',
      observe: path('/socket/straÃ\x9fe'),
      why: 'RFC 3986 §2: a URL is ASCII, browsers escape the rest',
    },
    { title: '`/socket#fragment`', observe: path('/socket#fragment') },
    { title: '`socket`, without the slash', observe: path('socket') },
    { title: '`*`', observe: path('*') },
    { title: '`http://example.com/socket`, the absolute form', observe: path('http://example.com/socket') },
    {
      title: '`/first/second/a`, with `/first/second` to `/long` before `/first` to `/short`',
      observe: path('/first/second/a'),
    },
    {
      title: '`/last/second/a`, with `/last` to `/short` before `/last/second` to `/long`',
      observe: path('/last/second/a'),
      why: 'the most specific route, wherever it stands: a file can be read in any order',
    },
  ],
};
