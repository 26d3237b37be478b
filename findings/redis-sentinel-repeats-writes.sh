#!/usr/bin/env bash
# redis 6.3.1 (node-redis), createSentinel: one call of incr() counts twice, and answers as if it had not.
# The connection to the master breaks after INCR was carried out and before its answer has come. createClient rejects such a call, so that its
# caller knows that it does not know. createSentinel sends the command again on a new connection, up to maxCommandRediscovers times (16), for any
# command: the call resolves with 2 for a counter that had no value. maxCommandRediscovers is described as a limit for changes of the topology; here
# the topology is the same all the time. So set maxCommandRediscovers: 0 where a command must not happen twice. Exits non-zero when that changes.
set -euo pipefail
command -v redis-server > /dev/null || { echo 'needs redis-server (Debian: apt-get install redis-server)'; exit 1; }
folder=$(mktemp -d)
trap 'for f in "$folder"/*.pid; do [ -e "$f" ] && kill -9 "$(cat "$f")" 2> /dev/null; done; rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund redis@6.3.1
base=$((20000 + RANDOM % 9000))
redis-server --port $base --bind 127.0.0.1 --daemonize yes --pidfile "$folder/master.pid" --dir "$folder" --save '' > /dev/null
until redis-cli -p $base ping > /dev/null 2>&1; do sleep 0.1; done
cat > program.mjs <<'PROGRAM'
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { createClient, createSentinel } from 'redis';
const [base, folder] = [Number(process.argv[2]), process.argv[3]];
const cli = (port, ...args) => execFileSync('redis-cli', ['-p', String(port), ...args], { encoding: 'utf8' }).trim();
// Passes everything on, but for the answer to the first INCR after `armed` was set: then it breaks the connection.
let armed = false;
const proxy = net.createServer(near => {
  const far = net.connect(base, '127.0.0.1');
  let isBroken = false;
  near.on('error', () => {}).on('close', () => far.destroy());
  far.on('error', () => {}).on('close', () => near.destroy());
  near.on('data', bytes => {
    if (armed && /INCR/i.test(String(bytes))) [armed, isBroken] = [false, true];
    far.write(bytes);
  });
  far.on('data', bytes => (isBroken ? near.destroy() : near.write(bytes)));
});
await once(proxy.listen(0, '127.0.0.1'), 'listening');
const { port } = proxy.address();
const configuration = [`port ${base + 1}`, 'bind 127.0.0.1', 'daemonize yes', `dir ${folder}`, `pidfile ${folder}/sentinel.pid`];
writeFileSync(`${folder}/sentinel.conf`, [...configuration, `sentinel monitor shop 127.0.0.1 ${port} 1`, ''].join('\n'));
execFileSync('redis-server', [`${folder}/sentinel.conf`, '--sentinel'], { stdio: 'ignore' });
for (;;) {
  try {
    if (cli(base + 1, 'PING') === 'PONG') break;
  } catch {}
  await wait(100);
}
const call = async (client, key) => {
  client.on('error', () => {});
  await client.connect();
  armed = true;
  const result = await client.incr(key).catch(error => error.constructor.name);
  client.destroy();
  return { result, value: cli(base, 'GET', key) };
};
const one = await call(createClient({ socket: { host: '127.0.0.1', port } }), 'one');
const behind = await call(createSentinel({ name: 'shop', sentinelRootNodes: [{ host: '127.0.0.1', port: base + 1 }] }), 'behind');
const careful = { name: 'shop', sentinelRootNodes: [{ host: '127.0.0.1', port: base + 1 }], maxCommandRediscovers: 0 };
const once0 = await call(createSentinel(careful), 'careful');
console.log('createClient', one, 'createSentinel', behind, 'maxCommandRediscovers: 0', once0);
assert.equal(one.value, '1');
assert.equal(typeof one.result, 'string');
assert.deepEqual(behind, { result: 2, value: '2' });
assert.equal(once0.value, '1');
process.exit();
PROGRAM
timeout 40 node program.mjs "$base" "$folder"
echo 'as described'
