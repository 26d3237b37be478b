import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listenTcp, unusedServer } from '../../gateway/gateway-server.ts';
import { createAuthority, createCertificate } from '../../self-signed-certificate.ts';
import { type Case, get, handshakeBytes, line, type Section, type Shown, startPair } from './comparison.ts';
import { exchange } from './exchange.ts';
import { RecordingBackend } from './recording-backend.ts';

/** The status, and what of a body tells that it is not from us. */
const asked =
  (bytes: string, shown: Shown = {}): Case['observe'] =>
  async side => {
    const answer = await exchange(side.port, bytes);
    answer.peer.socket.destroy();
    const garbage = answer.body.includes('not HTTP') ? '; the client gets what the backend sent' : '';
    return `${line(answer, [], shown)}${garbage}`;
  };

/** A server that does the same with each connection once something was sent. */
async function misbehaving(answer: string | undefined, ends = true) {
  const { url, close } = await listenTcp(socket => {
    socket.once('data', () => {
      if (answer !== undefined) socket.write(answer);
      if (ends) socket.end();
    });
  });
  return { url, [Symbol.asyncDispose]: close };
}

const both = (path: string, title: string, why: string | undefined, shown: Shown = {}): Case[] => [
  { title, observe: asked(get(`/${path}`), shown), ...(why && { why }) },
  { title: `${title}; a handshake`, observe: asked(handshakeBytes(`/${path}`), shown), ...(why && { why }) },
];

const badAnswer = '502: it answered wrongly or broke off';
const theServer = '502: it is the backend that failed, and not we';

export const statusCodes: Section = {
  title: 'Status codes',
  intro: `Each path leads to a backend that fails in its own way. Apache: \`ProxyPass /… http://127.0.0.1:… upgrade=websocket timeout=1\`; gateway:
\`answerTimeout: 1s\`, \`handshakeTimeout: 1s\`. 503 = no usable server, 502 = it answered wrongly or broke off, 504 = it was too slow.`,
  async start() {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-authority-'));
    const authority = createAuthority('an authority');
    const ca = join(folder, 'ca.crt');
    writeFileSync(ca, authority.certificate);
    const tlsFor = (host: string) => {
      const { certificate, key } = createCertificate({ name: host, hosts: [host], authority });
      return { key, cert: certificate };
    };
    const good = await new RecordingBackend('good', tlsFor('localhost')).listen();
    const misnamed = await new RecordingBackend('misnamed', tlsFor('example.com')).listen();
    const unknown = await new RecordingBackend('unknown', {
      ...(({ certificate, key }) => ({ key, cert: certificate }))(createCertificate({ name: 'localhost' })),
    }).listen();
    const plain = await new RecordingBackend('plain').listen();
    const silent = await misbehaving(undefined, false);
    const closing = await misbehaving(undefined);
    const garbage = await misbehaving('this is not HTTP\r\n\r\n');
    const switched = (lines: string) => `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n${lines}\r\n\r\n`;
    const otherUpgrade = await misbehaving(switched('Upgrade: other'), false);
    const wrongAccept = await misbehaving(switched('Upgrade: websocket\r\nSec-WebSocket-Accept: wrong'), false);
    const halfHead = await misbehaving('HTTP/1.1 200 OK\r\nContent-Le');
    const urls: Readonly<Record<string, string>> = {
      refused: await unusedServer(),
      silent: silent.url,
      closing: closing.url,
      garbage: garbage.url,
      'half-head': halfHead.url,
      'other-upgrade': otherUpgrade.url,
      'wrong-accept': wrongAccept.url,
      // No label of a name is that long: nobody has to be asked.
      dns: `http://${'x'.repeat(64)}.test`,
      plain: `http://127.0.0.1:${plain.port}`,
      'tls-good': `https://localhost:${good.port}`,
      'tls-misnamed': `https://localhost:${misnamed.port}`,
      'tls-unknown': `https://localhost:${unknown.port}`,
      'tls-plain': `https://localhost:${plain.port}`,
    };
    const passes = Object.entries(urls).map(
      ([name, url]) => `ProxyPass /${name} ${url}/${name} upgrade=websocket timeout=1 connectiontimeout=1`,
    );
    return startPair(
      {
        vhost: `
          SSLProxyEngine On
          SSLProxyVerify require
          SSLProxyCACertificateFile ${ca}
          ${passes.join('\n')}
          ProxyPass /websocket-only ws://127.0.0.1:${plain.port}/websocket-only`,
      },
      {
        upstreams: Object.fromEntries(
          Object.entries(urls).map(([name, url]) => [
            name,
            {
              servers: [url],
              answerTimeout: '1s',
              handshakeTimeout: '1s',
              ejection: false,
              ...(name.startsWith('tls') && { tls: { ca } }),
            },
          ]),
        ),
        routes: [
          ...Object.keys(urls).map(name => ({ path: `/${name}/*`, upstream: name })),
          { path: '/websocket-only', upstream: 'plain' },
        ],
      },
      [
        ...[good, misnamed, unknown, plain, silent, closing, garbage, halfHead, otherUpgrade, wrongAccept],
        { [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) },
      ],
    );
  },
  cases: [
    ...both('refused', 'nobody listens', 'and `Retry-After` says when to ask again', { answer: ['Retry-After'] }),
    ...both('silent', 'accepts, and never answers', '504: it was too slow'),
    ...both('closing', 'closes without an answer', undefined),
    ...both('half-head', 'answers half a head and closes', undefined),
    ...both('garbage', 'answers what is not HTTP', badAnswer),
    { title: 'answers a handshake with `Upgrade: other`', observe: asked(handshakeBytes('/other-upgrade')) },
    {
      title: 'answers a handshake with a wrong `Sec-WebSocket-Accept`',
      observe: asked(handshakeBytes('/wrong-accept')),
      why: 'what does not prove that it has read the handshake may be a cache, or no WebSocket server at all',
    },
    ...both('dns', 'has a name that does not resolve', theServer),
    ...both('tls-good', 'speaks TLS, with a good certificate', undefined),
    ...both('tls-misnamed', 'speaks TLS, with a certificate of another name', theServer),
    ...both('tls-unknown', 'speaks TLS, with a certificate that nobody signed whom we know', theServer),
    ...both('tls-plain', 'should speak TLS, and does not', theServer),
    ...['401', '403', '426', '500', '503'].flatMap(status => [
      { title: `answers ${status}`, observe: asked(get(`/plain?status=${status}`)) },
      { title: `answers ${status} to a handshake`, observe: asked(handshakeBytes(`/plain?status=${status}`)) },
    ]),
  ],
};
