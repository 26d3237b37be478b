import http from 'node:http';
import { describe, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';
import { missing, startProxy } from '../services/proxies.ts';
import { startTomcat, tomcatMissing } from '../services/tomcat.ts';

/** A real server with an area of its own at `/examples/websocket`. */
interface Behind {
  readonly url: string;
  /** Does this answer come from the area? */
  isArea(response: Pick<http.IncomingMessage, 'statusCode' | 'headers'>, body: string): boolean;
  [Symbol.asyncDispose](): Promise<void>;
}

const NGINX = (port: number) => `
server {
  listen 127.0.0.1:${port};
  location / { return 200 other; }
  location ~ ^/examples/websocket(/|$) { return 200 area; }
}`;

/** Its own next server: what it has decoded is the line of the next request. */
const NGINX_TWICE = (port: number) => {
  const next = `proxy_set_header X-Again yes; proxy_pass http://127.0.0.1:${port}$uri;`;
  return `
server {
  listen 127.0.0.1:${port};
  location / { if ($http_x_again) { return 200 other; } ${next} }
  location ~ ^/examples/websocket(/|$) { if ($http_x_again) { return 200 area; } ${next} }
}`;
};

const APACHE = (port: number) => `
<VirtualHost 127.0.0.1:${port}>
  AllowEncodedSlashes On
  <Location /examples/websocket>
    Header always set X-Area yes
  </Location>
</VirtualHost>`;

async function startNginx(config: (port: number) => string): Promise<Behind> {
  const nginx = await startProxy('nginx', config);
  return {
    url: `http://127.0.0.1:${nginx.port}`,
    isArea: (_, body) => body.endsWith('area'),
    [Symbol.asyncDispose]: () => nginx[Symbol.asyncDispose]() as Promise<void>,
  };
}

const servers: Readonly<Record<string, { reason: string | undefined; start(): Promise<Behind> }>> = {
  nginx: { reason: missing('nginx'), start: () => startNginx(NGINX) },
  'nginx before nginx': { reason: missing('nginx'), start: () => startNginx(NGINX_TWICE) },
  apache: {
    reason: missing('apache'),
    start: async () => {
      const apache = await startProxy('apache', APACHE);
      return {
        url: `http://127.0.0.1:${apache.port}`,
        isArea: response => response.headers['x-area'] === 'yes',
        [Symbol.asyncDispose]: () => apache[Symbol.asyncDispose]() as Promise<void>,
      };
    },
  },
  tomcat: {
    reason: tomcatMissing,
    start: async () => {
      const tomcat = await startTomcat('t1');
      return {
        url: tomcat.url,
        isArea: (response, body) => response.statusCode === 200 && /websocket/i.test(body),
        [Symbol.asyncDispose]: () => tomcat[Symbol.asyncDispose]() as Promise<void>,
      };
    },
  },
};

/** The same numbers at each run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const SEPARATORS = [
  '/',
  '/',
  '/',
  '//',
  '%2F',
  '%2f',
  ';a=b/',
  ';/',
  '/;x/',
  '/./',
  '/x/../',
  '/x/..%2F',
  '/x%2F..%2F',
  '/x/..;/',
  '/x/%2e%2e/',
];
const MORE = [
  ...SEPARATORS,
  '%252F',
  '%5C',
  '%255C',
  '/x/%252e%252e/',
  '%3B/',
  '%3Ba/',
  '/x/..%3B/',
  '%C0%AF',
  '/%2E/',
  '\\',
];
/** What some servers cut off, trim or fold. */
const ENDS = [
  ...[
    '',
    '',
    '',
    '',
    '%3F',
    '%3Fx',
    '%23',
    '%253F',
    '%0A',
    '%0D%0AX:',
    '%20HTTP/1.1%0D%0AX:%20',
    '%20',
    '%C2%A0',
    '.',
    '+',
  ],
  ...['::$DATA', ';a', '%3Ba', '%00', '%2500', '%20HTTP/1.0%0A'],
];
const spell = (name: string, next: (below: number) => number) =>
  next(3) > 0 ? name : name.replace(/[aeiou]/, letter => `%${next(2) ? '' : '25'}${letter.charCodeAt(0).toString(16)}`);

/** Ways to write `/examples/websocket/index.xhtml`. */
function* spellings(count: number): Generator<string> {
  const next = random(28);
  for (let i = 0; i < count; i++) {
    const separators = next(2) ? SEPARATORS : MORE;
    const separator = () => separators[next(separators.length)]!;
    const start = separator();
    const first = start.startsWith('/') ? start : `/y${start}..${separator()}`;
    yield `${first}${spell('examples', next)}${separator()}${spell('websocket', next)}${ENDS[next(ENDS.length)]}${separator()}index.xhtml`;
  }
}

type Answer = [Pick<http.IncomingMessage, 'statusCode' | 'headers'>, body: string];

function ask(agent: http.Agent, url: string, path: string): Promise<Answer> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const request = http.request({ hostname, port, path, agent, headers: { Host: 'localhost' } }, response => {
      let body = '';
      response.on('data', chunk => {
        body += chunk;
      });
      response.on('end', () => resolve([response, body]));
    });
    request.on('error', (error: Error & { rawPacket?: Buffer }) => {
      // The answer of HTTP/0.9 to a request whose line was cut off.
      if (error.rawPacket) resolve([{ statusCode: 0, headers: {} }, error.rawPacket.toString()]);
      else reject(error);
    });
    request.end();
  });
}

describe.each(Object.entries(servers))('%s behind a lax route and a confidential one', (_, { reason, start }) => {
  test.skipIf(reason)(reason ?? 'is reached by no spelling of the confidential path over plain http', async () => {
    await using behind = await start();
    await using served = await Served.yaml(
      [
        'session: false',
        `upstreams: { app: { servers: ['${behind.url}'] } }`,
        'routes:',
        '  - { path: /examples/websocket/*, upstream: app, policy: { transport: confidential } }',
        '  - { path: /*, upstream: app }',
        '',
      ].join('\n'),
    );
    const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
    let direct = 0;
    for (const path of spellings(1_700)) {
      const [own, ownBody] = await ask(agent, behind.url, path);
      if (behind.isArea(own, ownBody)) direct++;
      const [response, body] = await ask(agent, served.url('http/1'), path);
      if (behind.isArea(response, body)) expect.fail(`${path} led there`);
    }
    // Else it would say nothing.
    expect(direct).toBeGreaterThan(50);
    for (const path of [
      '/examples/websockets;a=b/index.xhtml',
      '/examples/a%20b;jsessionid=A',
      '/x%20y/a.b',
      '/what%3F',
    ]) {
      const [own] = await ask(agent, behind.url, path);
      const [response] = await ask(agent, served.url('http/1'), path);
      expect([path, response.statusCode]).toEqual([path, own.statusCode]);
    }
    agent.destroy();
  });
});
