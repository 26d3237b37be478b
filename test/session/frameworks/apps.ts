import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { serve } from '@hono/node-server';
import express, { type NextFunction, type Request, type Response } from 'express';
import fastify from 'fastify';
import { Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import { attachSession } from '../../../src/session/attach-session.ts';
import type { SessionManager } from '../../../src/session/manager.ts';
import type { AnySession } from './rig.ts';

export interface App {
  readonly port: number;
  close(): Promise<void>;
}

/** What a test and the application that it runs tell each other. */
export interface Stage {
  readonly sessions: SessionManager;
  /** A file to send. */
  readonly file: string;
  /** Chunks that `/stream` sends, and how many of them have been taken from their source. */
  chunks: number;
  taken: number;
  /** `/events` says its second event when it is resolved. */
  go: PromiseWithResolvers<void>;
  /** What went wrong in a handler. */
  readonly errors: unknown[];
  /** What `/late` got when it used its session after the response. */
  late: PromiseWithResolvers<unknown>;
}

export const CHUNK = Buffer.alloc(64 * 1024, 'x');

export interface Framework {
  readonly name: string;
  start(stage: Stage): Promise<App>;
}

async function count(stage: Stage, carrier: object): Promise<AnySession> {
  const session = (await stage.sessions.open(carrier)) as AnySession;
  session.set('visits', ((session.get('visits') as number | undefined) ?? 0) + 1);
  return session;
}

async function visits(stage: Stage, carrier: object): Promise<{ visits: unknown }> {
  const session = (await stage.sessions.get(carrier)) as AnySession | undefined;
  return { visits: session?.get('visits') ?? null };
}

function source(stage: Stage): Readable {
  return new Readable({
    read() {
      this.push(stage.taken++ < stage.chunks ? CHUNK : null);
    },
  });
}

function useLate(stage: Stage, session: AnySession): void {
  setTimeout(() => {
    try {
      session.set('late', 1);
      stage.late.resolve(undefined);
    } catch (error) {
      stage.late.resolve((error as { code?: string }).code);
    }
  }, 20);
}

export async function listen(server: http.Server): Promise<App> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return appOf(server);
}

/** Of a server that listens. */
export function appOf(server: http.Server): App {
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

const EVENTS = { 'content-type': 'text/event-stream', 'cache-control': 'no-store' };

const nodeHttp: Framework = {
  name: 'node:http',
  start(stage) {
    const json = (res: http.ServerResponse, value: unknown) =>
      void res.setHeader('content-type', 'application/json').end(JSON.stringify(value));
    const routes: Record<string, (req: http.IncomingMessage, res: http.ServerResponse) => unknown> = {
      '/read': async (req, res) => json(res, await visits(stage, req)),
      '/write': async (req, res) => json(res, { visits: (await count(stage, req)).get('visits') }),
      '/redirect': async (req, res) => {
        await count(stage, req);
        res.writeHead(303, { location: '/read' }).end();
      },
      '/file': async (req, res) => {
        await count(stage, req);
        createReadStream(stage.file).pipe(res);
      },
      '/stream': async (req, res) => {
        await count(stage, req);
        source(stage).pipe(res);
      },
      '/events': async (req, res) => {
        const session = await count(stage, req);
        res.writeHead(200, EVENTS);
        res.flushHeaders();
        res.write('data: first\n\n');
        await stage.go.promise;
        session.set('late', 'yes');
        res.end('data: second\n\n');
      },
      '/not-modified': async (req, res) => {
        await count(stage, req);
        res.writeHead(304, { etag: '"a"' }).end();
      },
      '/throws': async req => {
        await count(stage, req);
        throw new Error('the handler failed');
      },
      '/late': async (req, res) => {
        useLate(stage, await count(stage, req));
        json(res, {});
      },
    };
    const server = http.createServer(async (req, res) => {
      try {
        attachSession(stage.sessions, req, res);
        await routes[req.url!]!(req, res);
      } catch (error) {
        stage.errors.push(error);
        if (res.headersSent) return void res.destroy();
        res.writeHead((error as { status?: number }).status ?? 500).end('failed');
      }
    });
    return listen(server);
  },
};

const expressApp: Framework = {
  name: 'Express 5',
  start(stage) {
    const app = express();
    app.use((req, res, next) => {
      attachSession(stage.sessions, req, res);
      next();
    });
    app.get('/read', async (req, res) => void res.json(await visits(stage, req)));
    app.all('/write', async (req, res) => void res.json({ visits: (await count(stage, req)).get('visits') }));
    app.all('/redirect', async (req, res) => {
      await count(stage, req);
      res.redirect(303, '/read');
    });
    app.get('/file', async (req, res) => {
      await count(stage, req);
      res.sendFile(stage.file);
    });
    app.get('/stream', async (req, res) => {
      await count(stage, req);
      source(stage).pipe(res);
    });
    app.get('/events', async (req, res) => {
      const session = await count(stage, req);
      res.set(EVENTS).flushHeaders();
      res.write('data: first\n\n');
      await stage.go.promise;
      session.set('late', 'yes');
      res.end('data: second\n\n');
    });
    app.get('/not-modified', async (req, res) => {
      await count(stage, req);
      res.set('etag', '"a"').send('body');
    });
    app.all('/throws', async req => {
      await count(stage, req);
      throw new Error('the handler failed');
    });
    app.get('/late', async (req, res) => {
      useLate(stage, await count(stage, req));
      res.json({});
    });
    app.use((error: Error & { status?: number }, _req: Request, res: Response, next: NextFunction) => {
      stage.errors.push(error);
      if (res.headersSent) return next(error);
      res.status(error.status ?? 500).send('failed');
    });
    return listen(http.createServer(app));
  },
};

const fastifyApp: Framework = {
  name: 'Fastify 5',
  async start(stage) {
    const app = fastify({ forceCloseConnections: true });
    app.addHook('onRequest', async (request, reply) => void attachSession(stage.sessions, request, reply));
    app.get('/read', async request => visits(stage, request));
    app.all('/write', async request => ({ visits: (await count(stage, request)).get('visits') }));
    app.all('/redirect', async (request, reply) => {
      await count(stage, request);
      return reply.redirect('/read', 303);
    });
    app.get('/file', async (request, reply) => {
      await count(stage, request);
      return reply.send(createReadStream(stage.file));
    });
    app.get('/stream', async (request, reply) => {
      await count(stage, request);
      return reply.send(source(stage));
    });
    app.get('/events', async (request, reply) => {
      const session = await count(stage, request);
      reply.hijack();
      reply.raw.writeHead(200, EVENTS);
      reply.raw.flushHeaders();
      reply.raw.write('data: first\n\n');
      await stage.go.promise;
      session.set('late', 'yes');
      reply.raw.end('data: second\n\n');
    });
    app.get('/not-modified', async (request, reply) => {
      await count(stage, request);
      return reply.code(304).header('etag', '"a"').send();
    });
    app.all('/throws', async request => {
      await count(stage, request);
      throw new Error('the handler failed');
    });
    app.get('/late', async request => {
      useLate(stage, await count(stage, request));
      return {};
    });
    app.setErrorHandler((error: Error & { status?: number }, _request, reply) => {
      stage.errors.push(error);
      return reply.code(error.status ?? 500).send('failed');
    });
    await app.listen({ port: 0, host: '127.0.0.1' });
    return { port: (app.server.address() as AddressInfo).port, close: () => app.close() };
  },
};

type Env = { Bindings: { incoming: http.IncomingMessage; outgoing: http.ServerResponse } };

const honoApp: Framework = {
  name: 'Hono on @hono/node-server',
  async start(stage) {
    const app = new Hono<Env>();
    app.use(async (c, next) => {
      attachSession(stage.sessions, c);
      await next();
    });
    app.get('/read', async c => c.json(await visits(stage, c)));
    app.all('/write', async c => c.json({ visits: (await count(stage, c)).get('visits') as number }));
    app.all('/redirect', async c => {
      await count(stage, c);
      return c.redirect('/read', 303);
    });
    app.get('/file', async c => {
      await count(stage, c);
      return c.body(Readable.toWeb(createReadStream(stage.file)) as ReadableStream);
    });
    app.get('/stream', async c => {
      await count(stage, c);
      return c.body(Readable.toWeb(source(stage)) as ReadableStream);
    });
    app.get('/events', async c => {
      const session = await count(stage, c);
      return streamSSE(c, async stream => {
        await stream.writeSSE({ data: 'first' });
        await stage.go.promise;
        session.set('late', 'yes');
        await stream.writeSSE({ data: 'second' });
      });
    });
    app.get('/not-modified', async c => {
      await count(stage, c);
      return c.body(null, 304, { etag: '"a"' });
    });
    app.all('/throws', async c => {
      await count(stage, c);
      throw new Error('the handler failed');
    });
    app.get('/late', async c => {
      useLate(stage, await count(stage, c));
      return c.json({});
    });
    app.onError((error, c) => {
      stage.errors.push(error);
      return c.text('failed', ((error as { status?: number }).status ?? 500) as 500);
    });
    const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1', overrideGlobalObjects: false });
    await once(server, 'listening');
    return {
      port: (server.address() as AddressInfo).port,
      async close() {
        (server as http.Server).closeAllConnections();
        server.close();
        await once(server, 'close');
      },
    };
  },
};

export const frameworks: readonly Framework[] = [nodeHttp, expressApp, fastifyApp, honoApp];
