import { expect } from 'vitest';
import { Opcode } from '../../../src/websocket/protocol/opcodes.ts';
import { CLIENT_KEY } from '../../gateway/raw-peer.ts';
import {
  type Case,
  get,
  handshakeBytes,
  line,
  requestBytes,
  type Section,
  type Shown,
  startPair,
  tell,
} from './comparison.ts';
import { exchange } from './exchange.ts';
import { RecordingBackend } from './recording-backend.ts';

const backend = new RecordingBackend('backend');

const asked =
  (bytes: string, shown: Shown = {}): Case['observe'] =>
  side =>
    tell(side, backend, bytes, shown);

const SWITCH = ['Upgrade', 'Sec-WebSocket-Key', 'Sec-WebSocket-Protocol', 'Sec-WebSocket-Extensions'];

/** What a backend of HTTP/1.1 is told of the body that follows. */
const BODY = ['Transfer-Encoding', 'Content-Length', 'Trailer'];

/** A handshake with a masked frame behind it, and the first frame that comes back. */
const early: Case['observe'] = async side => {
  const frame = String.fromCharCode(0x81, 0x85, 0, 0, 0, 0, ...Buffer.from('early'));
  backend.take();
  const answer = await exchange(side.port, `${handshakeBytes('/a')}${frame}`);
  const { payload } = await answer.peer.frame(0);
  answer.peer.socket.destroy();
  return `${line(answer, backend.take(), {})}; echo: ${payload}`;
};

/** A message through a socket that has agreed on compression. */
const compressed: Case['observe'] = async side => {
  const answer = await exchange(side.port, handshakeBytes('/a', ['Sec-WebSocket-Extensions: permessage-deflate']));
  answer.peer.send(Opcode.text, 'a message');
  const frame = await answer.peer.frame(0);
  answer.peer.socket.destroy();
  return `${line(answer, [], { answer: ['Sec-WebSocket-Extensions'] })}; echo is ${frame.rsv1 ? '' : 'not '}compressed`;
};

const closing: Case['observe'] = async side => {
  backend.closes.clear();
  const answer = await exchange(side.port, handshakeBytes('/closing'));
  answer.peer.sendClose(4001, 'bye');
  const { payload } = await answer.peer.frame(0);
  await answer.peer.closed();
  await expect.poll(() => backend.closes.has('/closing')).toBe(true);
  return `client: ${payload.readUInt16BE()}; backend: ${backend.closes.get('/closing')}`;
};

/** The body and what came after it, as the backend got them. */
const body =
  (bytes: string, shown: readonly string[] = BODY): Case['observe'] =>
  async side => {
    backend.take();
    const answer = await exchange(side.port, bytes);
    answer.peer.socket.destroy();
    const requests = backend.take();
    const got = requests.map(
      ({ body, rawTrailers }) => `; body: ${body}; trailers: ${rawTrailers.join('=') || 'none'}`,
    );
    return `${line(answer, requests, { request: shown })}${got.join('')}`;
  };

const notOurHop = 'RFC 9110 §7.6.1: it is for the next hop only';
const noHandshake = 'a handshake that is none is not passed on for the backend to find out';
const noSuchMethod =
  'Node’s parser reads a fixed [list of methods](errors.md#err_http_method_unknown); 501 says that it is the method, over HTTP/1 and HTTP/2';
const chunks = 'a body comes as it came: what is streamed is not collected first';

export const hopByHop: Section = {
  title: 'Hop by hop, methods, and the upgrade',
  intro: 'Apache: `ProxyPass / http://127.0.0.1:3000/ upgrade=websocket`.',
  async start() {
    const url = `http://127.0.0.1:${(await backend.listen()).port}`;
    return startPair(
      { vhost: `ProxyPass / ${url}/ upgrade=websocket` },
      { upstreams: { app: { servers: [url] } }, routes: [{ path: '/*', upstream: 'app' }] },
      [backend],
    );
  },
  cases: [
    { title: 'a handshake', observe: asked(handshakeBytes('/a?x=1'), { target: true, request: SWITCH }) },
    {
      title: '`Connection: keep-alive, UPGRADE`, `Upgrade: WebSocket`',
      observe: asked(handshakeBytes('/a', ['Connection: keep-alive, UPGRADE', 'Upgrade: WebSocket']), { target: true }),
    },
    {
      title: '`Sec-WebSocket-Protocol: chat.v1`',
      observe: asked(handshakeBytes('/a', ['Sec-WebSocket-Protocol: chat.v1']), { answer: ['Sec-WebSocket-Protocol'] }),
    },
    { title: '`permessage-deflate`', observe: compressed },
    { title: 'a message sent with the handshake, before the answer', observe: early },
    { title: 'close code 4001', observe: closing },
    {
      title: '`Upgrade: h2c`',
      observe: asked(handshakeBytes('/a', ['Upgrade: h2c']), { request: ['Upgrade'] }),
    },
    {
      title: '`Upgrade: websocket, h2c`',
      observe: asked(handshakeBytes('/a', ['Upgrade: websocket, h2c']), { request: ['Upgrade'] }),
      why: 'RFC 6455 §4.2.1: the list contains it, which is enough; the backend is offered nothing else',
    },
    {
      title: '`Upgrade: websocket` without `Connection: Upgrade`',
      observe: asked(handshakeBytes('/a', ['Connection: keep-alive']), { request: ['Upgrade'] }),
      why: 'a proxy in front has dropped it: 426 says so',
    },
    {
      title: '`POST` with the headers of a handshake',
      observe: asked(handshakeBytes('/a').replace('GET', 'POST'), { request: ['Upgrade'] }),
      why: 'only a GET can be a handshake; of another method the offer is dropped',
    },
    {
      title: '`Sec-WebSocket-Version: 12`',
      observe: asked(handshakeBytes('/a', ['Sec-WebSocket-Version: 12']), {
        answer: ['Sec-WebSocket-Version'],
        target: true,
      }),
      why: 'RFC 6455 §4.2.2: 426 with the version that is spoken',
    },
    {
      title: '`Sec-WebSocket-Key: short`',
      observe: asked(handshakeBytes('/a', ['Sec-WebSocket-Key: short']), { target: true }),
      why: noHandshake,
    },
    {
      title: 'a handshake that the backend refuses with 401',
      observe: asked(handshakeBytes('/a?status=401'), { answer: ['Connection'] }),
      why: 'a refused upgrade ends the connection: what follows on it may be frames',
    },
    {
      title: '`RDG_OUT_DATA`, a method that few servers know',
      observe: asked(requestBytes('RDG_OUT_DATA', '/a'), { target: true }),
      why: noSuchMethod,
    },
    { title: '`LIST`', observe: asked(requestBytes('LIST', '/a'), { target: true }), why: noSuchMethod },
    { title: '`PROPFIND`', observe: asked(requestBytes('PROPFIND', '/a'), { target: true }) },
    {
      title: '`Connection: close, X-Drop` and `X-Drop: 1`',
      observe: asked(get('/a', ['Connection: close, X-Drop', 'X-Drop: 1']), { request: ['X-Drop'] }),
    },
    {
      title: '`Keep-Alive: timeout=5`',
      observe: asked(get('/a', ['Connection: keep-alive', 'Keep-Alive: timeout=5']), { request: ['Keep-Alive'] }),
    },
    {
      title: '`TE: trailers, gzip`',
      observe: asked(get('/a', ['TE: trailers, gzip', 'Connection: TE']), { request: ['TE'] }),
      why: 'servers that send trailers only to clients that take them (gRPC) are told of it; other codings are of one hop',
    },
    {
      title: '`OPTIONS` with `Max-Forwards: 2`',
      observe: asked(requestBytes('OPTIONS', '/a', ['Max-Forwards: 2']), { request: ['Max-Forwards'] }),
    },
    {
      title: '`OPTIONS` with `Max-Forwards: 0`',
      observe: asked(requestBytes('OPTIONS', '/a', ['Max-Forwards: 0']), { target: true }),
    },
    {
      title: '`TRACE` with `Max-Forwards: 0` and a cookie',
      observe: asked(requestBytes('TRACE', '/a', ['Max-Forwards: 0', 'Cookie: a=1']), { target: true }),
    },
    {
      title: '`GET` with `Max-Forwards: 0`',
      observe: asked(get('/a', ['Max-Forwards: 0']), { request: ['Max-Forwards'] }),
      why: 'RFC 9110 §7.6.2: it is for `OPTIONS` and `TRACE`',
    },
    {
      title: '`Proxy-Authorization: Basic eDp5`',
      observe: asked(get('/a', ['Proxy-Authorization: Basic eDp5']), { request: ['Proxy-Authorization'] }),
      why: notOurHop,
    },
    {
      title: '`Proxy-Connection: keep-alive`',
      observe: asked(get('/a', ['Proxy-Connection: keep-alive']), { request: ['Proxy-Connection'] }),
    },
    {
      title: '`Authorization: Basic eDp5`',
      observe: asked(get('/a', ['Authorization: Basic eDp5']), { request: ['Authorization'] }),
    },
    {
      title: '`Connection: Host, Content-Length`',
      observe: body(requestBytes('POST', '/a', ['Connection: Host, Content-Length', 'Content-Length: 4'], 'body'), [
        'Content-Length',
      ]),
    },
    {
      title: 'a response with `Connection: X-Drop`',
      observe: asked(get('/a?header=Connection:%20X-Drop&header=X-Drop:%201&header=X-Keep:%201'), {
        answer: ['X-Drop', 'X-Keep'],
      }),
    },
    {
      title: 'a response with `Proxy-Authenticate`',
      observe: asked(get('/a?header=Proxy-Authenticate:%20Basic'), { answer: ['Proxy-Authenticate'] }),
    },
    {
      title: 'a response with two `Set-Cookie`',
      observe: asked(get('/a?header=Set-Cookie:%20a=1&header=Set-Cookie:%20b=2'), { answer: ['Set-Cookie'] }),
    },
    {
      title: 'a body with `Content-Length`',
      observe: body(requestBytes('POST', '/a', ['Content-Length: 4'], 'body')),
    },
    {
      title: '`POST` without a body',
      observe: body(requestBytes('POST', '/a')),
      why: 'RFC 9110 §8.6: of a method that expects a body its absence is said',
    },
    {
      title: 'a body in chunks',
      observe: body(requestBytes('POST', '/a', ['Transfer-Encoding: chunked'], '4\r\nbody\r\n0\r\n\r\n')),
      why: chunks,
    },
    {
      title: 'a body in chunks with a trailer',
      observe: body(
        requestBytes(
          'POST',
          '/a',
          ['Transfer-Encoding: chunked', 'Trailer: X-Sum'],
          '4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n',
        ),
      ),
      why: chunks,
    },
    {
      title: '`Expect: 100-continue`',
      observe: body(requestBytes('POST', '/a', ['Expect: 100-continue', 'Content-Length: 4'], 'body'), ['Expect']),
    },
    {
      title: '`Content-Length` and `Transfer-Encoding` at once',
      observe: body(requestBytes('POST', '/a', ['Content-Length: 4', 'Transfer-Encoding: chunked'], '0\r\n\r\n'), []),
      why: 'RFC 9112 §6.1: two ends of one body are how requests are smuggled',
    },
    {
      title: 'two `Content-Length` that differ',
      observe: body(requestBytes('POST', '/a', ['Content-Length: 4', 'Content-Length: 5'], 'body!'), []),
    },
    {
      title: '`Transfer-Encoding: gzip, chunked`',
      observe: body(requestBytes('POST', '/a', ['Transfer-Encoding: gzip, chunked'], '0\r\n\r\n'), []),
      why: 'RFC 9112 §6.1: 501 for a coding that is not understood',
    },
    {
      title: 'a folded header',
      observe: asked(get('/a', ['X-Folded: a', ' b']), { request: ['X-Folded'] }),
      why: 'RFC 9112 §5.2 allows both; lines that are read differently are how requests are smuggled',
    },
    { title: 'white space before a colon', observe: asked(get('/a', ['X-Space : a']), { request: ['X-Space'] }) },
    {
      title: 'lines that end with LF only',
      observe: asked(get('/a').replaceAll('\r\n', '\n'), { target: true }),
    },
    { title: 'no `Host`', observe: asked('GET /a HTTP/1.1\r\n\r\n', { target: true }) },
    { title: 'two `Host`', observe: asked('GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', { target: true }) },
    { title: 'HTTP/1.0', observe: asked('GET /a HTTP/1.0\r\nHost: example.com\r\n\r\n', { target: true }) },
    {
      title: '`CONNECT example.com:443`',
      observe: asked(requestBytes('CONNECT', 'example.com:443'), { target: true }),
      why: 'a gateway is no forward proxy, and not one that tried and failed',
    },
    { title: '`TRACE`', observe: asked(requestBytes('TRACE', '/a'), { target: true }) },
    {
      title: '`GET http://other.test/a` with another `Host`',
      observe: asked(requestBytes('GET', 'http://other.test/a'), { target: true }),
      why: 'two hosts of one request are how routes are walked round',
    },
    {
      title: '`Sec-WebSocket-Key` twice',
      observe: asked(handshakeBytes('/a', [`Sec-WebSocket-Key: ${CLIENT_KEY}`, `Sec-WebSocket-Key: ${CLIENT_KEY}`]), {
        target: true,
      }),
      why: noHandshake,
    },
  ],
};
