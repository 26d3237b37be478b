#!/usr/bin/env bash
# pg 8.23.1 (pg-pool 3.14.0): pool.query() closes its connection whenever the statement fails, even for a duplicate key.
# After a failed statement PostgreSQL is ready for the next one, a client taken with pool.connect() can be used again, and `postgres` 3.4.9 keeps its
# connection too. pool.query() passes the statement's error to release(), which treats every error as a broken connection. So code that relies on a unique
# key ("insert it, or learn that it exists") pays for a new connection, with TLS and password, each time the row exists: here 20 such statements cost 20
# connections. Write ON CONFLICT DO NOTHING, or take a client with pool.connect() and release it without the error. Exits non-zero when that changes.
set -euo pipefail
# In PATH, else Debian's: initdb is not linked to PATH there.
bin=$(for d in ${PATH//:/ } /usr/lib/postgresql/*/bin; do if [ -x "$d/initdb" ] && [ -x "$d/postgres" ]; then echo "$d"; fi; done | tail -n 1)
[ -n "$bin" ] || { echo 'needs postgres and initdb (Debian: apt-get install postgresql)'; exit 1; }
# PostgreSQL refuses to run as root.
as=()
if [ "$(id -u)" = 0 ]; then as=(setpriv "--reuid=$(id -u nobody)" "--regid=$(id -g nobody)" --clear-groups); fi
folder=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill -QUIT "$server"; wait "$server" || true; fi; rm -rf "$folder"' EXIT
cd "$folder"
mkdir server
if [ "$(id -u)" = 0 ]; then chmod 755 "$folder"; chown "$(id -u nobody):$(id -g nobody)" server; fi
(cd server && "${as[@]}" "$bin/initdb" -D "$folder/server/data" --no-sync -A trust -U tester -E UTF8 --locale=C > /dev/null)
port=$((20000 + RANDOM % 9000))
"${as[@]}" "$bin/postgres" -D "$folder/server/data" -p $port -c listen_addresses=127.0.0.1 -c "unix_socket_directories=$folder/server" -c fsync=off 2> log &
server=$!
until grep -q 'ready to accept connections' log; do kill -0 $server || { cat log; exit 1; }; sleep 0.1; done
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund pg@8.23.1 pg-pool@3.14.0 postgres@3.4.9
cat > program.mjs <<'PROGRAM'
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import pg from 'pg';
import postgres from 'postgres';

const url = `postgres://tester@127.0.0.1:${process.argv[2]}/postgres`;
const times = 20;
const insert = "INSERT INTO visits (id) VALUES ('the same')";

/** The SQLSTATEs of the statement, run `times` times, one after the other. */
async function repeat(run) {
  const states = new Set();
  for (let i = 0; i < times; i++) states.add(await run().then(() => 'done', error => error.code));
  return [...states].join(' ');
}

const pool = new pg.Pool({ connectionString: url, max: 1 });
let opened = 0;
pool.on('connect', () => opened++);
await pool.query('CREATE TABLE visits (id text PRIMARY KEY)');
await pool.query(insert);

const seen = {};
async function count(name, run) {
  const before = opened; // and one connection is open and idle
  const states = await repeat(run);
  await pool.query('SELECT 1'); // so that one is again
  seen[name] = `${states}, ${opened - before} connections opened`;
}
await count('pool.query, statement succeeds', () => pool.query(`${insert} ON CONFLICT DO NOTHING`));
await count('client.query, duplicate key', async () => {
  const client = await pool.connect();
  try {
    await client.query(insert);
  } finally {
    client.release();
  }
});
await count('pool.query, duplicate key', () => pool.query(insert));
await pool.end();

const sql = postgres(url, { max: 1 });
const own = async () => (await sql`SELECT pg_backend_pid() AS pid`)[0].pid;
const pid = await own();
seen['postgres, duplicate key'] = `${await repeat(() => sql.unsafe(insert))}, ${(await own()) === pid ? 'the same connection' : 'another connection'}`;
await sql.end();

const version = name => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
console.log(`pg ${version('pg')}, pg-pool ${version('pg-pool')}, postgres ${version('postgres')}, ${times} statements each:`);
console.log(seen);
assert.deepEqual(seen, {
  'pool.query, statement succeeds': 'done, 0 connections opened',
  'client.query, duplicate key': '23505, 0 connections opened',
  'pool.query, duplicate key': `23505, ${times} connections opened`,
  'postgres, duplicate key': '23505, the same connection',
});
PROGRAM
node program.mjs "$port"
