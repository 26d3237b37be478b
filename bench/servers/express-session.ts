// The same as holdfast-session.ts by express-session and connect-redis as their READMEs show them, in the Redis of the
// URL given.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { RedisStore } from 'connect-redis';
import type { Request, Response } from 'express';
import session, { type Session } from 'express-session';
import { createClient } from 'redis';
import { ready } from './control.ts';

const client = createClient({ url: process.argv[2]! });
client.on('error', console.error);
await client.connect();
const middleware = session({
  store: new RedisStore({ client }),
  secret: 'a key for benchmarks, of at least 32 bytes',
  resave: false,
  saveUninitialized: false,
});

const server = createServer((req, res) => {
  const request = req as Request & { session: Session & { count?: number } };
  middleware(request, res as Response, (error?: unknown) => {
    if (error) throw error;
    const count = Number(request.session.count ?? 0) + 1;
    request.session.count = count;
    res.end(String(count));
  });
});
server.listen(0, '127.0.0.1', () => ready((server.address() as AddressInfo).port, () => globalThis.gc?.()));
