#!/usr/bin/env bash
# redis 6.3.1 (node-redis), createCluster: a cluster that announces no host is taken for this machine.
# With `cluster-preferred-endpoint-type unknown-endpoint` (clusters behind NAT or a load balancer) CLUSTER SLOTS has null for each host, which
# means "the host that you have asked", as redis-cli reads it. createCluster makes the address "null:PORT" of it, and connects to its own
# machine: here the one server listens on 127.0.0.2, and the connection to 127.0.0.1 is refused; where something listens there, that is used.
# So give such clusters a nodeAddressMap that turns null:PORT into the right host. Exits non-zero when that changes.
set -euo pipefail
command -v redis-server > /dev/null || { echo 'needs redis-server (Debian: apt-get install redis-server)'; exit 1; }
folder=$(mktemp -d)
trap '[ -e "$folder/redis.pid" ] && kill -9 "$(cat "$folder/redis.pid")"; rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund redis@6.3.1
port=$((20000 + RANDOM % 9000))
redis-server --port $port --bind 127.0.0.2 --protected-mode no --daemonize yes --pidfile "$folder/redis.pid" --dir "$folder" --save '' \
  --cluster-enabled yes --cluster-preferred-endpoint-type unknown-endpoint --logfile "$folder/log" > /dev/null
until redis-cli -h 127.0.0.2 -p $port ping > /dev/null 2>&1; do sleep 0.1; done
redis-cli -h 127.0.0.2 -p $port cluster addslotsrange 0 16383 > /dev/null
until redis-cli -h 127.0.0.2 -p $port cluster info | grep -q 'cluster_state:ok'; do sleep 0.1; done
redis-cli -c -h 127.0.0.2 -p $port set key value > /dev/null
cat > program.mjs <<'PROGRAM'
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createCluster } from 'redis';
const port = Number(process.argv[2]);
async function read(options) {
  const cluster = createCluster({ rootNodes: [{ url: `redis://127.0.0.2:${port}` }], defaults: { socket: { reconnectStrategy: false } }, ...options });
  const errors = [];
  cluster.on('error', error => errors.push(error));
  cluster.on('node-error', error => errors.push(error));
  try {
    await cluster.connect();
    const value = await cluster.get('key');
    cluster.destroy();
    return value;
  } catch (error) {
    return [error, error.cause, ...errors, ...(error.errors ?? [])].map(one => one?.message ?? '').find(text => text.includes('ECONNREFUSED')) ?? error.message;
  }
}
const plain = await read({});
const seen = {
  version: JSON.parse(readFileSync('node_modules/redis/package.json', 'utf8')).version,
  'redis-cli -c': execFileSync('redis-cli', ['-c', '-h', '127.0.0.2', '-p', String(port), 'get', 'key'], { encoding: 'utf8' }).trim(),
  createCluster: plain.replaceAll(String(port), 'PORT'),
  'with nodeAddressMap': await read({ nodeAddressMap: { [`null:${port}`]: { host: '127.0.0.2', port } } }),
};
console.log(seen);
assert.deepEqual(seen, {
  version: '6.3.1', 'redis-cli -c': 'value', createCluster: 'connect ECONNREFUSED 127.0.0.1:PORT', 'with nodeAddressMap': 'value',
});
process.exit(0);
PROGRAM
timeout 40 node program.mjs "$port"
