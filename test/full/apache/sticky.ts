import { unusedServer } from '../../gateway/gateway-server.ts';
import { type Case, get, handshakeBytes, type Section, type Side, startPair } from './comparison.ts';
import { exchange } from './exchange.ts';
import { RecordingBackend } from './recording-backend.ts';

const backends = ['t1', 't2', 'b.a'].map(route => new RecordingBackend(route));

/** Where so many equal requests go. */
const REQUESTS = 6;

/**
 * Apache makes up for what members have got by stickiness: until that is done, requests that are tied to nobody go to
 * the others.
 */
async function evenOut(side: Side): Promise<void> {
  const last: string[] = [];
  while (new Set(last.slice(-backends.length)).size < backends.length) {
    const answer = await exchange(side.port, get('/untied'));
    answer.peer.socket.destroy();
    last.push(answer.body);
  }
}

const asked =
  (target: string, lines: readonly string[] = [], bytes = get): Case['observe'] =>
  async side => {
    await evenOut(side);
    for (const backend of backends) backend.take();
    const statuses = new Set<number>();
    const servers = new Set<string>();
    for (let i = 0; i < REQUESTS; i++) {
      const answer = await exchange(side.port, bytes(target, lines));
      answer.peer.socket.destroy();
      statuses.add(answer.status);
      for (const backend of backends) if (backend.take().length > 0) servers.add(backend.name);
    }
    const all = [...servers].sort().join(' and ');
    const where = servers.size === 0 ? 'nowhere' : servers.size === backends.length ? 'to each in turn' : all;
    return `${[...statuses].join(' and ')}; ${where}`;
  };

/** The same, where it does not matter which one is chosen, but whether it is always the same. */
const choice =
  (target: string, lines: readonly string[]): Case['observe'] =>
  async side => {
    const told = await asked(target, lines)(side);
    return told.replace(/; (?:t1|t2|b\.a)$/, '; always to the same other one');
  };

const cookie = (value: string) => [`Cookie: a=1; JSESSIONID=${value}; b=2`];
const separators = 'the first of `.`, `!` and `:` begins the route; with `separator` only one does';

/** Members t1, t2 and b.a, and one, t4, that is down. */
async function start(options: { strict: boolean; separator?: '!' }) {
  for (const backend of backends) await backend.listen();
  const down = await unusedServer();
  const servers = [
    ...backends.map(({ name, port }) => ({ url: `http://127.0.0.1:${port}`, route: name })),
    { url: down, route: 't4' },
  ];
  const members = servers.map(({ url, route }) => `BalancerMember ${url} route=${route} upgrade=websocket`);
  const { strict, separator } = options;
  return startPair(
    {
      vhost: `
        <Proxy balancer://app>
          ${members.join('\n')}
          ProxySet stickysession=JSESSIONID|jsessionid scolonpathdelim=On ${strict ? 'nofailover=On' : ''}
          ${separator ? `ProxySet stickysessionsep=${separator}` : ''}
        </Proxy>
        ProxyPass / balancer://app/`,
    },
    {
      upstreams: { app: { servers, affinity: { by: 'route', strict, ...(separator && { separator }) } } },
      routes: [{ path: '/*', upstream: 'app' }],
    },
    backends,
  );
}

export const sticky: Section = {
  title: 'Sticky sessions by the route of the backend',
  intro: `Members \`t1\`, \`t2\`, \`b.a\`, and \`t4\`, which is down; ${REQUESTS} equal requests. Apache: \`stickysession=JSESSIONID|jsessionid
scolonpathdelim=On\`; gateway: \`affinity: route\`.`,
  start: () => start({ strict: false }),
  cases: [
    { title: 'no session', observe: asked('/a') },
    {
      title: '`/a?notjsessionid=abc.t2`',
      observe: asked('/a?notjsessionid=abc.t2'),
      why: 'a parameter has its whole name',
    },
    { title: '`JSESSIONID=abc`', observe: asked('/a', cookie('abc')) },
    { title: '`JSESSIONID=abc.`', observe: asked('/a', cookie('abc.')) },
    { title: '`JSESSIONID=abc.unknown`', observe: asked('/a', cookie('abc.unknown')) },
    { title: '`JSESSIONID=abc.T2`', observe: asked('/a', cookie('abc.T2')) },
    { title: '`NOTJSESSIONID=abc.t2`', observe: asked('/a', ['Cookie: NOTJSESSIONID=abc.t2']) },
    { title: '`JSESSIONID=abc.t1`', observe: asked('/a', cookie('abc.t1')) },
    { title: '`JSESSIONID=abc.t2`', observe: asked('/a', cookie('abc.t2')) },
    { title: '`JSESSIONID=abc.t2`, WebSockets', observe: asked('/a', cookie('abc.t2'), handshakeBytes) },
    { title: '`/a;jsessionid=abc.t2`', observe: asked('/a;jsessionid=abc.t2') },
    { title: '`/a;jsessionid=abc.t2?x=1`', observe: asked('/a;jsessionid=abc.t2?x=1') },
    { title: '`/a;jsessionid=abc.t2;x=1`', observe: asked('/a;jsessionid=abc.t2;x=1') },
    { title: '`/a?jsessionid=abc.t2`', observe: asked('/a?jsessionid=abc.t2') },
    { title: '`/a?x=1&jsessionid=abc.t2&y=2`', observe: asked('/a?x=1&jsessionid=abc.t2&y=2') },
    {
      title: '`/a;jsessionid=abc.t1` and `JSESSIONID=abc.t2`',
      observe: asked('/a;jsessionid=abc.t1', cookie('abc.t2')),
    },
    { title: '`JSESSIONID=abc.b.a`', observe: asked('/a', cookie('abc.b.a')) },
    { title: '`JSESSIONID=abc!t2`', observe: asked('/a', cookie('abc!t2')), why: separators },
    { title: '`JSESSIONID=abc:t2`', observe: asked('/a', cookie('abc:t2')), why: separators },
    {
      title: '`JSESSIONID=abc.t4`, which is down',
      observe: choice('/a', cookie('abc.t4')),
      why: 'the session moves once, and stays where it has moved to',
    },
  ],
};

export const strictSticky: Section = {
  title: 'Strict sticky sessions',
  intro: 'The same with `nofailover=On`; gateway: `affinity: { by: route, strict: true }`.',
  start: () => start({ strict: true }),
  cases: [
    { title: '`JSESSIONID=abc.unknown`', observe: asked('/a', cookie('abc.unknown')) },
    { title: 'no session', observe: asked('/a') },
    { title: '`JSESSIONID=abc.t2`', observe: asked('/a', cookie('abc.t2')) },
    { title: '`JSESSIONID=abc.t4`, which is down', observe: asked('/a', cookie('abc.t4')) },
    { title: 'the same, WebSockets', observe: asked('/a', cookie('abc.t4'), handshakeBytes) },
  ],
};

export const weblogicSticky: Section = {
  title: 'Sticky sessions of WebLogic',
  intro: 'The same with `stickysessionsep=!`; gateway: `separator: "!"`.',
  start: () => start({ strict: false, separator: '!' }),
  cases: [
    { title: '`JSESSIONID=abc.t2`', observe: asked('/a', cookie('abc.t2')) },
    { title: '`JSESSIONID=abc!t2`', observe: asked('/a', cookie('abc!t2')) },
    {
      title: '`JSESSIONID=abc!t2!t1!1700000000`, with a second server and a time',
      observe: asked('/a', cookie('abc!t2!t1!1700000000')),
      why: 'WebLogic writes it so',
    },
  ],
};
