import { createServer, defineEndpoint } from 'holdfast';

// The publisher of `broadcast-fairness.test.ts`, in a process of its own.
const MIB = 1024 * 1024;

/** Milliseconds on the machine's monotonic clock, the same in every process. */
const now = () => Number(process.hrtime.bigint()) / 1e6;

const endpoint = defineEndpoint({
  path: '/',
  maxBufferedAmount: '1MiB',
  idleTimeout: -1,
  heartbeat: false,
});

/** Sends to those who do not read until what is sent stays in this process, and stays there. */
async function fillStalled(): Promise<number> {
  const stalled = [...endpoint.connections].filter(({ url }) => url.searchParams.has('stalled'));
  for (let calm = 0; calm < 10; ) {
    await new Promise(resolve => setTimeout(resolve, 20));
    const hungry = stalled.filter(({ bufferedAmount }) => bufferedAmount < MIB);
    for (const connection of hungry) connection.send(new Uint8Array(MIB));
    calm = hungry.length === 0 ? calm + 1 : 0;
  }
  return stalled.filter(({ isOpen }) => isOpen).length;
}

const server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  routes: [{ endpoint }],
  log: { level: 'silent', access: 'off' },
});
await server.start();

process.on('message', async ({ publish, every }: { publish: number; every: number }) => {
  const stalled = await fillStalled();
  const publishedAt: number[] = [];
  const payload = new Uint8Array(64);
  let sent = 0;
  const startedAt = now();
  for (let i = 0; i < publish; i++) {
    await new Promise(resolve => setTimeout(resolve, Math.max(0, startedAt + i * every - now())));
    publishedAt.push(now());
    sent += endpoint.broadcast(payload).sent;
  }
  process.send!({ publishedAt, sent, stalled });
});
process.on('disconnect', () => process.exit());
process.send!({ url: server.urls[0]!.replace('localhost', '127.0.0.1') });
