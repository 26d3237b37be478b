import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { parseConfig } from '../../../src/config/parse.ts';
import { readSource } from '../../../src/config/source.ts';
import { type Config, createServer, isHoldfastError } from '../../../src/index.ts';
import { Opcode } from '../../../src/websocket/protocol/opcodes.ts';
import { closeOf, type RawPeer } from '../../gateway/raw-peer.ts';
import { testApacheConfig } from '../../services/proxies.ts';
import {
  APACHE_MODULES,
  type ApacheTask,
  type Case,
  get,
  handshakeBytes,
  type Section,
  type Side,
  startApache,
  startHoldfast,
  tell,
} from './comparison.ts';
import { type Answer, exchange } from './exchange.ts';
import { RecordingBackend } from './recording-backend.ts';

const backend = new RecordingBackend('backend');
const url = (scheme = 'http') => `${scheme}://127.0.0.1:${backend.port}`;

/** Everything to the backend. */
const gateway = (config: Config = {}): Config => ({
  upstreams: { app: { servers: [url()] } },
  routes: [{ path: '/*', upstream: 'app' }],
  ...config,
});

const SESSIONS: Config = { session: { cookie: { name: 'SESSIONID' } } };

/** Starts the one that is asked, with a task of its own, for this case only. */
const each =
  (task: () => ApacheTask, config: () => Config, observe: (side: Side) => Promise<string>): Case['observe'] =>
  async ({ name }) => {
    await using one = name === 'apache' ? await startApache(task()) : await startHoldfast(config());
    return await observe({ name, port: one.port });
  };

const WSTUNNEL_ONLY = ['mpm_event', 'authz_core', 'proxy', 'proxy_wstunnel'];

const REWRITE = `
  RewriteEngine On
  RewriteCond %{HTTP:Cookie} ^.*SESSIONID=([^;]+)
  RewriteRule .* - [E=SESSION_ID:%1]
  RequestHeader set X-Session-ID %{SESSION_ID}e`;

/** What a test of the configuration says about a line, and whether we do what it is for. */
const configTest =
  (directive: string, ours: () => Config, modules = APACHE_MODULES): Case['observe'] =>
  async ({ name }) => {
    if (name === 'apache') {
      const said = await testApacheConfig(`<VirtualHost *>\n${directive}\n</VirtualHost>`, modules);
      const [, last] = /^([^\n]*)$/.exec(said.split('\n').at(-1)!)!;
      return `configtest: ${last!.replace(/, perhaps .*/, '')}`;
    }
    await using one = await startHoldfast(ours());
    const answer = await exchange(one.port, handshakeBytes('/socket'));
    answer.peer.socket.destroy();
    return String(answer.status);
  };

async function message(peer: RawPeer, text: string): Promise<string> {
  const before = peer.frames.length;
  peer.send(Opcode.text, text);
  return String((await peer.frame(before)).payload);
}

/** How a socket on which nothing happens ends. */
const silence = async (side: Side) => {
  const { peer } = await exchange(side.port, handshakeBytes('/socket'));
  await peer.until(() => peer.frames.length > 0 || peer.isClosed || peer.isEnded);
  return ending(peer);
};

function ending(peer: RawPeer): string {
  const close = peer.frames.find(({ opcode }) => opcode === Opcode.close);
  peer.socket.destroy();
  return close ? `close code ${closeOf(close)[0]}` : 'cut without a close frame (1006)';
}

const wsTask = (more = ''): ApacheTask => ({ vhost: `ProxyPass /socket ${url('ws')}/socket\n${more}` });

/** Values that are made anew each time. */
const masked = (told: string) => told.replace(/(SESSIONID=)[\w.-]{30,}/g, '$1<new>');

const document = (lines: readonly string[] = []) =>
  get('/socket', ['Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document', ...lines]);

const COOKIE_LINE = 'Header always set Set-Cookie "SESSIONID=%{SESSION_ID}e; Path=/; HttpOnly; Secure"';

const setCookie = (bytes: string) =>
  each(
    () => ({ vhost: `ProxyPass / ${url()}/ upgrade=websocket\n<Location />${REWRITE}\n${COOKIE_LINE}\n</Location>` }),
    () => gateway(SESSIONS),
    async side => masked(await tell(side, backend, bytes, { answer: ['Set-Cookie'] })),
  );

/** A session of ours under the name that the attacker would have chosen. */
async function ticketOf(side: Side, text: string): Promise<string> {
  if (side.name === 'apache') return text;
  const answer = await exchange(side.port, document());
  answer.peer.socket.destroy();
  return text.replace('good', /^SESSIONID=([^;]+)/.exec(headerOf(answer, 'set-cookie')!)![1]!);
}

const headerOf = (answer: Answer, name: string) => answer.headers.find(([other]) => other === name)?.[1];

const fixation = (rewrite: string) =>
  each(
    () => ({ vhost: `ProxyPass / ${url()}/\n<Location />\n${rewrite}\n</Location>` }),
    () => gateway(SESSIONS),
    async side => {
      const bytes = get('/socket', ['Cookie: SESSIONID=good']);
      const told = await tell(side, backend, await ticketOf(side, bytes), { request: ['X-Session-ID'] });
      return told.replace(/(x-session-id: )[\w-]{22}/i, '$1good');
    },
  );

/** So many sockets, and then a page. */
const WORKERS = 2;
const crowded = async (side: Side) => {
  const sockets = await Promise.all(
    Array.from({ length: WORKERS }, () => exchange(side.port, handshakeBytes('/socket'))),
  );
  const page = exchange(side.port, get('/socket'));
  const timeout = new Promise<undefined>(resolve => setTimeout(resolve, 2_000, undefined));
  const first = await Promise.race([page, timeout]);
  for (const { peer } of sockets) peer.socket.destroy();
  const { status, peer } = await page;
  peer.socket.destroy();
  return first ? `${status} at once` : `${status} when a socket has closed`;
};

/** What the access log says of a socket with a session, while it is open and afterwards. */
const logging: Case['observe'] = async ({ name }) => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-log-'));
  const file = join(folder, 'access.log');
  const lines: string[] = [];
  const read = async () =>
    name === 'apache' ? (await readFile(file, 'utf8')).split('\n').filter(Boolean) : lines.map(ourLogLine);
  try {
    await using one =
      name === 'apache'
        ? await startApache({
            vhost: `ProxyPass / ${url()}/ upgrade=websocket
              <Location />${REWRITE}\n</Location>
              CustomLog ${file} "%U %>s \\"%{X-Session-ID}i\\""`,
          })
        : await startHoldfast(gateway({ ...SESSIONS, log: { access: 'json', level: 'silent' } }), {
            accessLog: { write: line => lines.push(line) },
          });
    const side = { name, port: one.port };
    const bytes = await ticketOf(side, handshakeBytes('/socket', ['Cookie: SESSIONID=good']));
    // Of the page that gave the session.
    if (name === 'holdfast') await expect.poll(() => lines).toHaveLength(1);
    lines.length = 0;
    const { peer } = await exchange(one.port, bytes);
    expect(await message(peer, 'hello')).toBe('hello');
    const during = await read();
    peer.sendClose(1000);
    await peer.closed();
    await expect.poll(async () => (await read()).length).toBeGreaterThan(during.length);
    const after = (await read()).slice(during.length);
    return `while it is open: ${during.join('; ') || 'nothing'}; then: ${after.join('; ')}`;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

function ourLogLine(text: string): string {
  const { event, target, sid, closeCode } = JSON.parse(text);
  return `${event} ${target} ${closeCode ?? ''} "${String(sid).replaceAll(/[\w-]/g, '*')}"`.replace('  ', ' ');
}

/** How sockets end when the program is told to. */
const stopping =
  (signal: NodeJS.Signals): Case['observe'] =>
  async ({ name }) => {
    if (name === 'apache') {
      await using apache = await startApache(wsTask());
      const { peer } = await exchange(apache.port, handshakeBytes('/socket'));
      expect(await message(peer, 'hello')).toBe('hello');
      process.kill(apache.pid, signal);
      await peer.until(() => peer.isEnded || peer.isClosed);
      return ending(peer);
    }
    const server = createServer({ listen: [{ port: 0, host: '127.0.0.1' }], session: false, ...gateway() });
    await server.start();
    const { peer } = await exchange(Number(new URL(server.urls[0]!).port), handshakeBytes('/socket'));
    expect(await message(peer, 'hello')).toBe('hello');
    const stopped = server.stop();
    await peer.until(() => peer.frames.length > 1 || peer.isClosed);
    const told = ending(peer);
    await stopped;
    return told;
  };

export const mistakes: Section = {
  title: 'Configurations that do not do what they seem to',
  intro: `Lines that are often found in guides, each with an Apache of its own, and what we do for the same wish.`,
  async start() {
    await backend.listen();
    // Each case starts what it needs.
    return {
      apache: { name: 'apache', port: 0 },
      holdfast: { name: 'holdfast', port: 0 },
      [Symbol.asyncDispose]: () => backend[Symbol.asyncDispose](),
    };
  },
  cases: [
    ...['RewriteEngine On', 'RequestHeader set X-Session-ID %{SESSION_ID}e', 'SSLEngine on'].map(directive => ({
      title: `\`a2enmod proxy proxy_wstunnel\`, and \`${directive}\``,
      observe: configTest(directive, () => gateway(SESSIONS), WSTUNNEL_ONLY),
      why: 'there are no modules',
    })),
    {
      title: '`a2enmod proxy proxy_wstunnel`, and a plain `GET` where WebSockets are',
      observe: each(
        () => ({ ...wsTask(), modules: WSTUNNEL_ONLY }),
        gateway,
        side => tell(side, backend, get('/socket'), { target: true }),
      ),
      why: 'one route takes both',
    },
    {
      title:
        '`a2enmod proxy proxy_wstunnel`, and `Timeout 1`: a silent socket, when one of an Apache with `proxy_http` has been cut',
      observe: async ({ name }) => {
        if (name === 'holdfast') {
          const websocket = { idleTimeout: '1s' as const };
          await using one = await startHoldfast(gateway({ routes: [{ path: '/*', upstream: 'app', websocket }] }));
          return await silence({ name, port: one.port });
        }
        await using without = await startApache({ ...wsTask(), global: 'Timeout 1', modules: WSTUNNEL_ONLY });
        await using with_ = await startApache({
          vhost: `ProxyPass / ${url()}/ upgrade=websocket`,
          global: 'Timeout 1',
        });
        const { peer } = await exchange(without.port, handshakeBytes('/socket'));
        const other = await silence({ name, port: with_.port });
        const echo = await message(peer, 'still there');
        peer.socket.destroy();
        return `${echo}; the other: ${other}`;
      },
      why: '`idleTimeout` holds for every WebSocket, and its end is said (1001)',
    },
    {
      title: '`wss://` behind, without `SSLProxyEngine On`',
      observe: each(
        () => ({ vhost: `ProxyPass /socket ${url('wss')}/socket` }),
        () => gateway({ upstreams: { app: { servers: [url('wss')] } } }),
        side => tell(side, backend, handshakeBytes('/socket')),
      ),
      why: 'TLS is spoken because the URL says so; here the backend does not speak it',
    },
    {
      title:
        '`ProxyPass /app ws://…/inner` and `ProxyPassReverse` of the same: a page that answers `Location: http://127.0.0.1:3000/inner/a`',
      observe: each(
        () => ({ vhost: `ProxyPass /app ${url('ws')}/inner\nProxyPassReverse /app ${url('ws')}/inner` }),
        () => gateway({ routes: [{ path: '/app/*', upstream: 'app', rewrite: '/inner' }] }),
        async side => {
          const link = encodeURIComponent(`Location: ${url()}/inner/a`);
          const told = await tell(side, backend, get(`/app/x?header=${link}`), { answer: ['Location'] });
          return told.replace(`127.0.0.1:${backend.port}`, '127.0.0.1:3000');
        },
      ),
      why: 'links of pages never begin with `ws:`',
    },
    {
      title: 'one backend in two `ProxyPass`, the second without `upgrade=websocket`: a handshake for the second',
      observe: each(
        () => ({ vhost: `ProxyPass /a ${url()}/ upgrade=websocket\nProxyPass /b ${url()}/` }),
        () =>
          gateway({
            routes: [
              { path: '/a', upstream: 'app' },
              { path: '/b', upstream: 'app', websocket: false },
            ],
          }),
        side => tell(side, backend, handshakeBytes('/b')),
      ),
      why: '`websocket: false` is a property of the route, not of a connection that others share',
    },
    {
      title: `\`${COOKIE_LINE}\`: a client without a cookie`,
      observe: setCookie(document()),
      why: 'every client gets a session of its own',
    },
    {
      title: 'the same: a client with `SESSIONID=attacker`',
      observe: setCookie(document(['Cookie: SESSIONID=attacker'])),
      why: 'no id that a client brings becomes a session; `renew` changes the secret at each login',
    },
    { title: 'the same: a handshake', observe: setCookie(handshakeBytes('/socket')) },
    {
      title: '`RewriteCond %{HTTP:Cookie} ^.SESSIONID=([^;]+)`, without the `*`',
      observe: fixation(REWRITE.replace('^.*', '^.')),
      why: 'a cookie is named, not searched for',
    },
    {
      title: '`RewriteRule . – [E=SESSION_ID:%1]`, with a dash that is none',
      observe: fixation(REWRITE.replace('.* -', '. –')),
      why: 'as above',
    },
    {
      title: '`RewriteCond …` and `RewriteRule …` in one line',
      observe: configTest('RewriteCond %{HTTP:Cookie} ^.SESSIONID=([^;]+) RewriteRule . – [E=SESSION_ID:%1]', () =>
        gateway(SESSIONS),
      ),
      why: 'as above',
    },
    {
      title:
        '`Header always set Set-Cookie “SESSIONID=…; Path=/”`, with curly quotes; ours: `cookie: { name: “SESSIONID” }`',
      observe: async side => {
        if (side.name === 'apache')
          return configTest('Header always set Set-Cookie “SESSIONID=a; Path=/; HttpOnly; Secure”', gateway)(side);
        try {
          const { document, locate } = readSource(
            'session: { cookie: { name: “SESSIONID” } }',
            'yaml',
            'holdfast.yaml',
          );
          createServer(parseConfig(document, locate));
          return 'taken';
        } catch (error) {
          return `check: ${isHoldfastError(error) || error instanceof TypeError ? error.message : error}`;
        }
      },
      why: 'both notice',
    },
    {
      title:
        '`Header always set Access-Control-Allow-Origin "https://example.com"`: a handshake of `Origin: https://evil.test`',
      observe: each(
        () => ({
          vhost: `ProxyPass / ${url()}/ upgrade=websocket\nHeader always set Access-Control-Allow-Origin "https://example.com"`,
        }),
        () => gateway({ routes: [{ path: '/*', upstream: 'app', policy: { origins: ['https://example.com'] } }] }),
        side => tell(side, backend, handshakeBytes('/socket', ['Origin: https://evil.test'])),
      ),
      why: 'CORS is for answers that a page reads; WebSockets know none, hence `origins`, which is the own one by default',
    },
    {
      title: '`MaxClients 100` in `<Location />`, “for each client”',
      observe: configTest('<Location />\nMaxClients 100\n</Location>', gateway),
      why: 'it is a limit of the whole server, and of its threads',
    },
    {
      title: `\`MaxRequestWorkers ${WORKERS}\`, as many silent sockets, and a page`,
      observe: each(
        () => ({
          ...wsTask(`ProxyPass / ${url()}/`),
          global: `ServerLimit 1\nThreadsPerChild ${WORKERS}\nMaxRequestWorkers ${WORKERS}\nStartServers 1`,
        }),
        gateway,
        crowded,
      ),
      why: 'a socket holds no thread',
    },
    {
      title: '`CustomLog … "%U %>s \\"%{X-Session-ID}i\\""`: a socket with a session; ours: `log: { access: json }`',
      observe: logging,
      why: 'an event when a socket opens and one when it closes; of the id only what it is found by',
    },
    {
      title: 'stop (`SIGTERM`), with a socket open',
      observe: stopping('SIGTERM'),
      why: 'a client is told that it may come again at once',
    },
    { title: 'restart (`SIGHUP`), with a socket open; ours is stopped', observe: stopping('SIGHUP'), why: 'as above' },
  ],
};
