import { connect } from 'node:net';

// The clients of `broadcast-fairness.test.ts`, in a process of their own: they count bytes and note when a message was
// complete.
const [, , url, readers, stalled, publications] = process.argv as [string, string, string, string, string, string];
const { hostname, port } = new URL(url);
const FRAME_BYTES = 2 + 64;
const READERS = Number(readers);
const LAST_PERCENT = READERS - Math.ceil(READERS / 100);

const clockOffset = Number(process.hrtime.bigint()) / 1e6 - performance.now();
const shared = Buffer.allocUnsafe(64 * 1024);
const arrivals = new Uint32Array(Number(publications));
const completeAt = new Float64Array(Number(publications));
const last = new Uint32Array(Number(publications));
const timesLate = new Uint32Array(READERS);

function open(path: string, onBytes: ((count: number) => void) | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    let isOpen = false;
    const socket = connect({
      host: hostname,
      port: Number(port),
      onread: {
        buffer: shared,
        callback(count) {
          if (isOpen) {
            onBytes?.(count);
          } else {
            const head = shared.toString('latin1', 0, count);
            if (!head.startsWith('HTTP/1.1 101')) reject(new Error(head));
            isOpen = true;
            if (onBytes === undefined) socket.pause();
            resolve();
          }
          return onBytes !== undefined;
        },
      },
    });
    socket.on('error', reject);
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n',
    );
  });
}

function reader(index: number): Promise<void> {
  let bytes = 0;
  let received = 0;
  return open('/', count => {
    bytes += count;
    const now = performance.now() + clockOffset;
    while (bytes >= FRAME_BYTES) {
      bytes -= FRAME_BYTES;
      const rank = arrivals[received]!++;
      if (rank >= LAST_PERCENT) timesLate[index]!++;
      completeAt[received] = now;
      last[received] = index;
      received++;
      if (received === arrivals.length && arrivals[received - 1] === READERS)
        process.send!({ completeAt: [...completeAt], last: [...last], timesLate: [...timesLate] });
    }
  });
}

for (let i = 0; i < READERS; i += 250)
  await Promise.all(Array.from({ length: Math.min(250, READERS - i) }, (_, k) => reader(i + k)));
for (let i = 0; i < Number(stalled); i++) await open('/?stalled', undefined);
process.on('disconnect', () => process.exit());
process.send!('ready');
