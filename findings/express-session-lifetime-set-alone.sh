#!/usr/bin/env bash
# express-session 1.19.0 with connect-redis 10.0.0: a session's new lifetime is forgotten if the request changes nothing else.
# `req.session.cookie.maxAge = …` gives one session a lifetime of its own ("stay signed in"). express-session ignores the cookie when it decides whether a
# session was modified, so with resave: false such a request calls the store's touch() and not its set(). touch() of MemoryStore keeps the new lifetime.
# touch() of connect-redis extends the key in Redis and leaves the stored session unchanged: the key has 30 days, and after the next request one hour
# again. So it works in development and not in production. And without `rolling` neither store makes express-session send the cookie again: the browser's
# copy keeps its first expiry. Change something else in the session in the same request (the last row below). Exits non-zero when that changes.
set -euo pipefail
command -v redis-server > /dev/null || { echo 'needs redis-server (Debian: apt-get install redis-server)'; exit 1; }
folder=$(mktemp -d)
trap '[ -e "$folder/redis.pid" ] && kill -9 "$(cat "$folder/redis.pid")"; rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund express@5.3.0 express-session@1.19.0 connect-redis@10.0.0 redis@6.3.1
port=$((20000 + RANDOM % 9000))
redis-server --port $port --bind 127.0.0.1 --daemonize yes --pidfile "$folder/redis.pid" --dir "$folder" --save '' > /dev/null
until redis-cli -p $port ping > /dev/null 2>&1; do sleep 0.1; done
cat > program.mjs <<'PROGRAM'
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import { createClient } from 'redis';

const hour = 3_600_000;
const client = createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
await client.connect();

/** Signs in, asks for 30 days at `path`, looks in again: after each what the store keeps and what the browser was sent, in hours. */
async function visit(store, rolling, path) {
  const app = express();
  app.use(session({ secret: 'of this example', resave: false, saveUninitialized: false, rolling, store, cookie: { maxAge: hour } }));
  app.get('/sign-in', (req, res) => {
    req.session.user = 'ann';
    res.send(req.sessionID);
  });
  app.get('/stay', (req, res) => {
    req.session.cookie.maxAge = 720 * hour;
    res.send(req.sessionID);
  });
  app.get('/stay-and-note-it', (req, res) => {
    req.session.cookie.maxAge = 720 * hour;
    req.session.stay = true;
    res.send(req.sessionID);
  });
  app.get('/look', (req, res) => res.send(req.sessionID));
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const hours = until => Math.round((until - Date.now()) / hour);
  let cookie = '';
  const rows = [];
  for (const step of ['/sign-in', path, '/look']) {
    const response = await fetch(`http://127.0.0.1:${server.address().port}${step}`, { headers: { cookie } });
    const id = await response.text();
    const [sent] = response.headers.getSetCookie();
    if (sent) cookie = sent.split(';')[0];
    const kept =
      store instanceof RedisStore
        ? Date.now() + (await client.pTTL(`sess:${id}`))
        : Date.parse((await new Promise(resolve => store.get(id, (_, found) => resolve(found)))).cookie.expires);
    rows.push(`${step} store ${hours(kept)} h, ${sent ? `cookie ${hours(Date.parse(/Expires=([^;]+)/.exec(sent)[1]))} h` : 'no cookie'}`);
  }
  server.close();
  return rows.join('; ');
}

const version = name => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
console.log(`express-session ${version('express-session')}, connect-redis ${version('connect-redis')}, redis ${version('redis')}`);
const seen = {
  'MemoryStore, rolling': await visit(new session.MemoryStore(), true, '/stay'),
  'RedisStore, rolling': await visit(new RedisStore({ client }), true, '/stay'),
  MemoryStore: await visit(new session.MemoryStore(), false, '/stay'),
  RedisStore: await visit(new RedisStore({ client }), false, '/stay'),
  'RedisStore, something else changed': await visit(new RedisStore({ client }), false, '/stay-and-note-it'),
};
console.log(seen);
assert.deepEqual(seen, {
  'MemoryStore, rolling': '/sign-in store 1 h, cookie 1 h; /stay store 720 h, cookie 720 h; /look store 720 h, cookie 720 h',
  'RedisStore, rolling': '/sign-in store 1 h, cookie 1 h; /stay store 720 h, cookie 720 h; /look store 1 h, cookie 1 h',
  MemoryStore: '/sign-in store 1 h, cookie 1 h; /stay store 720 h, no cookie; /look store 720 h, no cookie',
  RedisStore: '/sign-in store 1 h, cookie 1 h; /stay store 720 h, no cookie; /look store 1 h, no cookie',
  'RedisStore, something else changed':
    '/sign-in store 1 h, cookie 1 h; /stay-and-note-it store 720 h, cookie 720 h; /look store 720 h, no cookie',
});
process.exit(0);
PROGRAM
node program.mjs "$port"
