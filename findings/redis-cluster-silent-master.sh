#!/usr/bin/env bash
# redis 6.3.1 (node-redis), createCluster: a master that falls silent is never left, although a replica has taken its place.
# A master whose connections stay open and say nothing (its host has lost power, its network drops packets, SIGSTOP) is replaced by its replica
# after cluster-node-timeout: redis-cli, asked for the same key, is sent to the new master. createCluster looks for a new topology when a
# connection breaks or a server answers MOVED, and neither happens: 15 s after the replica took over, each command for those slots still fails
# (ClientClosedError here, with pingInterval and socketTimeout; without them it waits). A command of another slot works all the time.
# So give each command a time of your own, and when one passes, connect anew or make a living master answer. Exits non-zero when that changes.
set -euo pipefail
command -v redis-server > /dev/null || { echo 'needs redis-server (Debian: apt-get install redis-server)'; exit 1; }
folder=$(mktemp -d)
trap 'for f in "$folder"/*.pid; do [ -e "$f" ] && kill -9 "$(cat "$f")" 2> /dev/null; done; rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund redis@6.3.1
base=$((20000 + RANDOM % 9000))
for i in 0 1 2 3 4 5; do
  port=$((base + i))
  redis-server --port $port --bind 127.0.0.1 --daemonize yes --pidfile "$folder/$port.pid" --dir "$folder" --save '' --dbfilename "$port.rdb" \
    --cluster-enabled yes --cluster-config-file "nodes-$port.conf" --cluster-node-timeout 1000 --logfile "$folder/$port.log" > /dev/null
done
for i in 0 1 2 3 4 5; do until redis-cli -p $((base + i)) ping > /dev/null 2>&1; do sleep 0.1; done; done
redis-cli --cluster create $(for i in 0 1 2 3 4 5; do echo "127.0.0.1:$((base + i))"; done) --cluster-replicas 1 --cluster-yes > /dev/null
until redis-cli -p "$base" cluster info | grep -q 'cluster_state:ok'; do sleep 0.1; done
# Each replica has its master's data and is known to it.
for i in 0 1 2; do until redis-cli -p $((base + i)) info replication | grep -q 'slave0:.*state=online'; do sleep 0.1; done; done
cat > program.mjs <<'PROGRAM'
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { createCluster } from 'redis';
const [base, folder] = [Number(process.argv[2]), process.argv[3]];
const cli = (port, ...args) => execFileSync('redis-cli', ['-p', String(port), ...args], { encoding: 'utf8' }).trim();
const cluster = createCluster({
  rootNodes: [{ url: `redis://127.0.0.1:${base}` }],
  defaults: { pingInterval: 500, socket: { socketTimeout: 1000 }, disableOfflineQueue: true },
});
cluster.on('error', () => {});
cluster.on('node-error', () => {});
await cluster.connect();
const [silentKey, otherKey] = ['{a}', '{b}']; // slots 15495 and 3300: of two masters
await cluster.set(silentKey, 'kept');
await cluster.set(otherKey, 'kept');
const owner = cluster.slots[15495].master.port;
assert.notEqual(owner, cluster.slots[3300].master.port);
const asked = [base, base + 1, base + 2].find(port => port !== owner);
process.kill(Number(readFileSync(`${folder}/${owner}.pid`, 'utf8')), 'SIGSTOP');
const masterOf = () => /(?:^|\n)\S+ \S+:(\d+)@\S+ (?:myself,)?master - \S+ \S+ \S+ connected[^\n]*(?:^|[ -])16383(?:\s|$)/.exec(cli(asked, 'cluster', 'nodes'))?.[1];
let promoted;
for (let i = 0; i < 150 && !promoted; i++) {
  await wait(100);
  const port = masterOf();
  if (port && Number(port) !== owner) promoted = Number(port);
}
assert.ok(promoted, 'no replica took over');
const byCli = cli(promoted, 'get', silentKey);
const within = (work, ms) => Promise.race([work.then(() => 'answered', error => `failed: ${error.constructor.name}`), wait(ms, 'no answer in 1 s')]);
const outcomes = [];
let others = 0;
const began = Date.now();
while (Date.now() - began < 15_000) {
  outcomes.push(await within(cluster.get(silentKey), 1000));
  if ((await within(cluster.get(otherKey), 1000)) === 'answered') others++;
  await wait(500);
}
const seen = {
  version: JSON.parse(readFileSync('node_modules/redis/package.json', 'utf8')).version,
  'redis-cli at the new master': byCli,
  'answered in 15 s': outcomes.filter(one => one === 'answered').length,
  'the master in cluster.slots': cluster.slots[15495].master.port === owner ? 'the silent one' : 'another',
  'another slot': others === outcomes.length ? 'always answered' : `answered ${others} of ${outcomes.length}`,
};
console.log(seen, [...new Set(outcomes)]);
assert.deepEqual(seen, {
  version: '6.3.1', 'redis-cli at the new master': 'kept', 'answered in 15 s': 0, 'the master in cluster.slots': 'the silent one', 'another slot': 'always answered',
});
process.exit(0);
PROGRAM
timeout 45 node program.mjs "$base" "$folder"
