#!/usr/bin/env bash
# node:cluster (Node 26.10.0): a connection that the primary gives to a worker in the moment in which that worker dies is lost: nobody serves it, nobody
# closes it, and it is given to no other worker, though others are ready. Its client has a TCP connection that stays open and silent.
# The primary accepts (SCHED_RR, the default outside Windows), sends the handle to the worker and waits for its word that it was taken, before it gives
# that worker the next. When the worker ends first, by SIGKILL or a crash, the word never comes, and what was sent to a process that has ended is not
# looked at again. So each death under load costs one client its answer, and the primary a descriptor. A supervisor that promises that others are
# unharmed keeps each connection until it is acknowledged, and hands it on when its worker has ended. Exits non-zero when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund node@26.10.0
cat > program.mjs <<'PROGRAM'
import cluster from 'node:cluster';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

if (cluster.isWorker) {
  http.createServer((_, response) => response.end('served')).listen(0, '127.0.0.1');
} else {
  const workers = [cluster.fork(), cluster.fork()];
  const [{ port }] = await Promise.all(workers.map(async worker => (await once(worker, 'listening'))[0]));
  const ask = () =>
    new Promise(resolve => {
      const socket = net.connect(port, '127.0.0.1', () => socket.write('GET / HTTP/1.0\r\n\r\n'));
      const timer = setTimeout(() => { resolve('silent for 5 s, still open'); socket.destroy(); }, 5_000);
      const settle = how => { clearTimeout(timer); resolve(how); };
      socket.once('data', data => settle(String(data).endsWith('served') ? 'served' : 'other'));
      socket.once('error', () => settle('reset')).once('end', () => settle('closed'));
    });
  const before = await Promise.all(Array.from({ length: 20 }, ask));
  // The connections are there before the primary has heard of the death of its worker.
  process.kill(workers[0].process.pid, 'SIGKILL');
  const during = Array.from({ length: 20 }, ask);
  await once(workers[0], 'exit');
  await pause(200);
  const after = await Promise.all(Array.from({ length: 20 }, ask));
  const counts = list => JSON.stringify(Object.fromEntries([...Map.groupBy(list, how => how)].map(([how, { length }]) => [how, length])));
  const seen = await Promise.all(during);
  console.log(process.version);
  console.log('before:                ', counts(before));
  console.log('as the worker is killed:', counts(seen));
  console.log('after:                 ', counts(after));
  const isAsSeen = before.every(how => how === 'served') && after.every(how => how === 'served') && seen.includes('silent for 5 s, still open');
  process.exit(isAsSeen ? 0 : 1);
}
PROGRAM
timeout 50 ./node_modules/.bin/node program.mjs
