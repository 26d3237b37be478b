import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createServer, type Server } from '../../src/index.ts';
import { startTomcat, type Tomcat, tomcatMissing } from '../services/tomcat.ts';

describe.skipIf(tomcatMissing)(tomcatMissing ?? 'the sessions of two Tomcats, observed', () => {
  let tomcats: Tomcat[];
  let server: Server;
  beforeAll(async () => {
    tomcats = await Promise.all([startTomcat('t1'), startTomcat('t2')]);
    server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      upstreams: {
        // Nothing is said of routes: where a session was begun is remembered.
        app: {
          servers: tomcats.map(({ url }) => url),
          session: { mode: 'observed', cookie: 'JSESSIONID', suffix: '.' },
        },
      },
      routes: [{ path: '/*', upstream: 'app' }],
      log: { level: 'silent' },
    });
    await server.start();
  });
  afterAll(async () => {
    await server?.stop({ drain: 0 });
    for (const tomcat of tomcats ?? []) await tomcat[Symbol.asyncDispose]();
  });

  /** The text of a page, and the cookie afterwards. */
  async function visit(path: string, cookie?: string): Promise<{ text: string; cookie: string | undefined }> {
    const response = await fetch(new URL(path, server.urls[0]), cookie ? { headers: { cookie } } : {});
    expect(response.status).toBe(200);
    const set = response.headers.getSetCookie().find(line => line.startsWith('JSESSIONID='));
    return { text: (await response.text()).trim(), cookie: set ? set.split(';')[0] : cookie };
  }

  async function socket(cookie: string) {
    const url = new URL('/examples/websocket/echoAnnotation', server.urls[0]!.replace('http', 'ws'));
    const client = new WebSocket(url, { headers: { cookie }, origin: server.urls[0]! });
    const closed = once(client, 'close').then(([code, reason]) => `${code} ${reason}`);
    await once(client, 'open');
    return { client, closed };
  }

  test('each visitor stays where his session is, and Tomcat is told of it letter for letter', async () => {
    const visitors = await Promise.all(Array.from({ length: 8 }, () => visit('/counter.jsp')));
    expect(new Set(visitors.map(({ text }) => text.split(' ')[0]))).toEqual(new Set(['t1', 't2']));
    for (let count = 2; count <= 4; count++)
      for (const { text, cookie } of visitors) {
        const [route, , id] = text.split(' ');
        expect((await visit('/counter.jsp', cookie)).text).toBe(`${route} ${count} ${id}`);
        expect((await visit('/session.jsp', cookie)).text).toBe(id);
      }
  });

  test('a login changes the id: the sockets of the old one close with 1012, and the session goes on under the new one', async () => {
    const before = await visit('/counter.jsp');
    const { closed } = await socket(before.cookie!);
    const login = await visit('/session.jsp?login', before.cookie);
    expect(login.text).toBe(before.cookie!.split('=')[1]);
    expect(login.cookie).not.toBe(before.cookie);
    expect(await closed).toBe('1012 session renewed');
    const [route] = before.text.split(' ');
    expect((await visit('/counter.jsp', login.cookie)).text).toBe(`${route} 2 ${login.cookie!.split('=')[1]}`);
    expect((await visit('/session.jsp', before.cookie)).text).toBe('null');
  });

  test('a logout ends the session: its sockets close with 1008, those of others stay', async () => {
    const [alice, bob] = [await visit('/counter.jsp'), await visit('/counter.jsp')];
    const [hers, his] = [await socket(alice.cookie!), await socket(bob.cookie!)];
    await visit('/session.jsp?logout', alice.cookie);
    expect(await hers.closed).toBe('1008 session ended');
    his.client.send('still here');
    expect(String((await once(his.client, 'message'))[0])).toBe('still here');
    his.client.close();
    expect((await visit('/session.jsp', alice.cookie)).text).toBe('null');
  });

  test('an id that somebody made up is none: Tomcat gives another', async () => {
    const madeUp = 'JSESSIONID=0123456789ABCDEF0123456789ABCDEF.t1';
    const { text, cookie } = await visit('/counter.jsp', madeUp);
    expect(text).toMatch(/ 1 /);
    expect(cookie).not.toBe(madeUp);
    // However often a page answers it with 200, Tomcat is not told of it.
    for (let i = 0; i < 3; i++) expect((await visit('/session.jsp', madeUp)).text).toBe('null');
  });
});
