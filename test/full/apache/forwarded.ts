import { type Case, get, handshakeBytes, type Section, startPair, tell } from './comparison.ts';
import { RecordingBackend } from './recording-backend.ts';

const backend = new RecordingBackend('backend');

/** What the backend got of these headers. */
const asked =
  (shown: readonly string[], lines: readonly string[] = [], bytes = get): Case['observe'] =>
  async side => {
    const told = await tell(side, backend, bytes('/a', lines), { request: shown });
    return told.replaceAll(`127.0.0.1:${backend.port}`, '127.0.0.1:3000');
  };

const STANDARD = ['X-Forwarded-For', 'X-Forwarded-Proto', 'X-Forwarded-Host', 'X-Forwarded-Port', 'Forwarded'];
const untrusted = 'who is not a trusted proxy says nothing about others';
const always = 'a backend needs scheme and port, and may read either form';

export const forwarded: Section = {
  title: 'Forwarded headers',
  intro: `Apache: \`ProxyPass / http://127.0.0.1:3000/\`, and nothing else said. The client asks for \`example.com\` from 127.0.0.1.`,
  async start() {
    await backend.listen();
    const url = `http://127.0.0.1:${backend.port}`;
    return startPair(
      { vhost: `ProxyPass / ${url}/ upgrade=websocket` },
      { upstreams: { app: { servers: [url] } }, routes: [{ path: '/*', upstream: 'app' }] },
      [backend],
    );
  },
  cases: [
    {
      title: '`Host`',
      observe: asked(['Host']),
      why: 'backends compare it with `Origin`, and build links of it (Apache: `ProxyPreserveHost On`)',
    },
    { title: 'nothing from the client', observe: asked(STANDARD), why: always },
    { title: 'the same, of a WebSocket', observe: asked(STANDARD, [], handshakeBytes), why: always },
    {
      title: '`X-Forwarded-For: 6.6.6.6`',
      observe: asked(['X-Forwarded-For'], ['X-Forwarded-For: 6.6.6.6']),
      why: untrusted,
    },
    {
      title: '`X-Forwarded-Proto: https`',
      observe: asked(['X-Forwarded-Proto'], ['X-Forwarded-Proto: https']),
      why: untrusted,
    },
    {
      title: '`X-Forwarded-Host: evil.test`',
      observe: asked(['X-Forwarded-Host'], ['X-Forwarded-Host: evil.test']),
      why: untrusted,
    },
    {
      title: '`Forwarded: for=6.6.6.6;proto=https`',
      observe: asked(['Forwarded'], ['Forwarded: for=6.6.6.6;proto=https']),
      why: untrusted,
    },
    {
      title: '`X_Forwarded_For: 6.6.6.6`, the same name to CGI and its like',
      observe: asked(['X_Forwarded_For'], ['X_Forwarded_For: 6.6.6.6']),
      why: 'every spelling of a header that is ours is removed',
    },
    {
      title: '`Connection: X-Forwarded-For`',
      observe: asked(['X-Forwarded-For'], ['Connection: X-Forwarded-For', 'X-Forwarded-For: 6.6.6.6']),
    },
    {
      title: '`X-Forwarded-Server`',
      observe: asked(['X-Forwarded-Server']),
      why: 'the name of this host is nobody’s business',
    },
    { title: '`Via`', observe: asked(['Via']) },
  ],
};

export const trusted: Section = {
  title: 'Forwarded headers from a trusted proxy',
  intro: `The client's address is one of a proxy that is trusted. Apache: \`RemoteIPHeader X-Forwarded-For\` and \`RemoteIPInternalProxy 127.0.0.1\`;
gateway: \`trustedProxies: [127.0.0.1, 10.0.0.1]\`.`,
  async start() {
    const url = `http://127.0.0.1:${(await backend.listen()).port}`;
    return startPair(
      {
        vhost: `
          RemoteIPHeader X-Forwarded-For
          RemoteIPInternalProxy 127.0.0.1
          RemoteIPInternalProxy 10.0.0.1
          ProxyPass / ${url}/ upgrade=websocket`,
      },
      {
        trustedProxies: ['127.0.0.1', '10.0.0.1'],
        upstreams: { app: { servers: [url] } },
        routes: [{ path: '/*', upstream: 'app' }],
      },
      [backend],
    );
  },
  cases: [
    {
      title: '`X-Forwarded-For: 192.0.2.7`',
      observe: asked(['X-Forwarded-For'], ['X-Forwarded-For: 192.0.2.7']),
      why: 'the list is continued with each hop, so that the backend can judge all of it',
    },
    {
      title: '`X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.0.0.1`',
      observe: asked(['X-Forwarded-For'], ['X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.0.0.1']),
      why: 'as above',
    },
    {
      title: '`X-Forwarded-Proto: https`',
      observe: asked(['X-Forwarded-Proto'], ['X-Forwarded-For: 192.0.2.7', 'X-Forwarded-Proto: https']),
    },
    {
      title: '`Forwarded: for=192.0.2.7;proto=https`',
      observe: asked(['Forwarded', 'X-Forwarded-Proto'], ['Forwarded: for=192.0.2.7;proto=https']),
      why: 'both forms tell the same',
    },
  ],
};
