import type { RouteConfig } from '../../../src/config/config.ts';
import { type Case, get, handshakeBytes, type Section, type Side, startPair, tell } from './comparison.ts';
import { exchange, requestBytes } from './exchange.ts';
import { RecordingBackend } from './recording-backend.ts';

const backend = new RecordingBackend('backend');

/** Cookies of live sessions by what Apache's backend believes to be their ids, and what ours is told. */
const tickets = new Map<string, { ticket: string; sid: string }>();

/** A request whose `Cookie` names sessions as `good` and `other`; at ours these are live ones. */
const asked =
  (lines: readonly string[], bytes = get): Case['observe'] =>
  async side => {
    let sent = bytes('/socket', lines);
    if (side.name === 'apache') return tell(side, backend, sent, { request: ['X-Session-ID'] });
    for (const [id, { ticket }] of tickets) sent = sent.replaceAll(new RegExp(`\\b${id}\\b`, 'g'), ticket);
    let told = await tell(side, backend, sent, { request: ['X-Session-ID'] });
    for (const [id, { sid, ticket }] of tickets) told = told.replaceAll(sid, id).replaceAll(ticket, `ticket of ${id}`);
    return told;
  };

const OPEN: RouteConfig = {
  path: '/open',
  session: 'create',
  fetch: (_, { session }) => new Response(`\nsid=${session!.id}\n`),
};

/** Two live sessions of ours. */
async function openSessions(side: Side): Promise<void> {
  for (const id of ['good', 'other']) {
    const opened = await exchange(side.port, get('/open'));
    opened.peer.socket.destroy();
    const shown = opened.headers.find(([name]) => name === 'set-cookie' || name === 'x-session-id')![1];
    const ticket = /^(?:SESSIONID=)?([^;]+)/.exec(shown)![1]!;
    tickets.set(id, { ticket, sid: /^sid=(\S+)/m.exec(opened.body)![1]! });
  }
}

const onlyLive = 'no live session, no header: a backend that sees one may believe it';
const exactName = 'a cookie has its whole name; others, which a sibling domain can set, are not it';

export const sessionHeader: Section = {
  title: 'The session, from the cookie to the header',
  intro: `Apache, inside of \`<Location />\`: \`RewriteCond %{HTTP:Cookie} ^.*SESSIONID=([^;]+)\`, \`RewriteRule .* - [E=SESSION_ID:%1]\`,
\`RequestHeader set X-Session-ID %{SESSION_ID}e\`. Gateway: \`session: { cookie: { name: SESSIONID } }\`; \`good\` and \`other\` stand for two live
sessions, the backend is told their ids, and not what the cookie holds.`,
  async start() {
    await backend.listen();
    const url = `http://127.0.0.1:${backend.port}`;
    const pair = await startPair(
      {
        vhost: `
          ProxyPass / ${url}/ upgrade=websocket
          <Location />
            Require all granted
            RewriteEngine On
            RewriteCond %{HTTP:Cookie} ^.*SESSIONID=([^;]+)
            RewriteRule .* - [E=SESSION_ID:%1]
            RequestHeader set X-Session-ID %{SESSION_ID}e
          </Location>`,
      },
      {
        session: { cookie: { name: 'SESSIONID' } },
        upstreams: { app: { servers: [url] } },
        routes: [OPEN, { path: '/*', upstream: 'app' }],
      },
      [backend],
    );
    await openSessions(pair.holdfast);
    return pair;
  },
  cases: [
    { title: '`a=1; SESSIONID=good; b=2`', observe: asked(['Cookie: a=1; SESSIONID=good; b=2']) },
    { title: 'the same, of a WebSocket', observe: asked(['Cookie: a=1; SESSIONID=good; b=2'], handshakeBytes) },
    { title: 'nothing', observe: asked([]), why: onlyLive },
    { title: '`X-Session-ID: stolen`', observe: asked(['X-Session-ID: stolen']), why: onlyLive },
    { title: '`SESSIONID=`', observe: asked(['Cookie: SESSIONID=']), why: onlyLive },
    { title: '`SESSIONID=invented`', observe: asked(['Cookie: SESSIONID=invented']), why: onlyLive },
    { title: '`sessionid=good`', observe: asked(['Cookie: sessionid=good']), why: onlyLive },
    {
      title: '`SESSIONID=good; EVILSESSIONID=evil`',
      observe: asked(['Cookie: SESSIONID=good; EVILSESSIONID=evil']),
      why: exactName,
    },
    { title: '`x=SESSIONID=inner`', observe: asked(['Cookie: x=SESSIONID=inner']), why: exactName },
    {
      title: '`SESSIONID=good; x=SESSIONID=inner`',
      observe: asked(['Cookie: SESSIONID=good; x=SESSIONID=inner']),
      why: exactName,
    },
    { title: '`PHPSESSIONID=php`', observe: asked(['Cookie: PHPSESSIONID=php']), why: exactName },
    {
      title: '`SESSIONID=good; SESSIONID=invented`',
      observe: asked(['Cookie: SESSIONID=good; SESSIONID=invented']),
      why: 'a second cookie of the name, which is not a ticket of ours, does not push the session aside',
    },
    {
      title: '`SESSIONID=invented; SESSIONID=good`',
      observe: asked(['Cookie: SESSIONID=invented; SESSIONID=good']),
    },
    {
      title: '`SESSIONID=good`, `SESSIONID=invented` in two headers',
      observe: asked(['Cookie: SESSIONID=good', 'Cookie: SESSIONID=invented']),
      why: 'as above',
    },
    {
      title: '`SESSIONID=good; SESSIONID=other`',
      observe: asked(['Cookie: SESSIONID=good; SESSIONID=other']),
      why: 'of two live sessions nobody can say which one is meant, and one of them is perhaps an attacker’s: there is none',
    },
    {
      title: '`SESSIONID="good"`',
      observe: asked(['Cookie: SESSIONID="good"']),
      why: 'quotes are no part of the value',
    },
    {
      title: '`SESSIONID=good` and `Connection: X-Session-ID`',
      observe: asked(['Cookie: SESSIONID=good', 'Connection: X-Session-ID']),
      why: 'what the client’s `Connection` names is removed first, and only then ours is set',
    },
    {
      title: 'the same, of a WebSocket',
      observe: asked(['Cookie: SESSIONID=good', 'Connection: Upgrade, X-Session-ID'], handshakeBytes),
      why: 'as above',
    },
    {
      title: '`SESSIONID=good` and `X-Session-ID: stolen`',
      observe: asked(['Cookie: SESSIONID=good', 'X-Session-ID: stolen']),
    },
    {
      title: '`X_Session_ID: stolen`, the same name to CGI and its like',
      observe: async side => {
        const sent = requestBytes('GET', '/socket', ['X_Session_ID: stolen']);
        return tell(side, backend, sent, { request: ['X_Session_ID'] });
      },
      why: 'every spelling of a header that is ours is removed',
    },
  ],
};

export const headerTracking: Section = {
  title: 'The session, from a header',
  intro: `Apache: \`RequestHeader append X-Session-ID %{HTTP:Session-ID}e\`. Gateway: \`session: { tracking: header, header: X-Session-ID }\`. Browsers
cannot set headers of a WebSocket; this is for other clients.`,
  async start() {
    await backend.listen();
    const url = `http://127.0.0.1:${backend.port}`;
    const pair = await startPair(
      {
        vhost: `
          ProxyPass / ${url}/ upgrade=websocket
          <Location />
            RequestHeader append X-Session-ID %{HTTP:Session-ID}e
          </Location>`,
      },
      {
        session: { tracking: 'header', header: 'X-Session-ID' },
        upstreams: { app: { servers: [url] } },
        routes: [OPEN, { path: '/*', upstream: 'app' }],
      },
      [backend],
    );
    await openSessions(pair.holdfast);
    return pair;
  },
  cases: [
    { title: 'nothing', observe: asked([]), why: onlyLive },
    {
      title: '`X-Session-ID: good`',
      observe: asked(['X-Session-ID: good']),
      why: 'the client shows a ticket; it is verified, and the backend is told the id of the session',
    },
    { title: '`X-Session-ID: invented`', observe: asked(['X-Session-ID: invented']), why: onlyLive },
    { title: '`Session-ID: good`', observe: asked(['Session-ID: good']), why: onlyLive },
    {
      title: '`X-Session-ID: good`, of a WebSocket',
      observe: asked(['X-Session-ID: good'], handshakeBytes),
      why: 'as above',
    },
  ],
};
