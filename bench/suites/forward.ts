import type { Comparison, Measurement, Suite } from '../comparison.ts';
import type { ForwardOptions } from '../load/forward.ts';
import type { LoadResult } from '../load/window.ts';
import { type StartForwarder, startApache, startNginx } from '../peers/forwarding-proxies.ts';
import { startLoad, startNodeServer, startServerOf } from '../program.ts';

const startHoldfast: StartForwarder = (port, checkout) => startServerOf(checkout, 'holdfast-gateway.ts', String(port));
const startHoldfastWithSession: StartForwarder = (port, checkout) =>
  startServerOf(checkout, 'holdfast-gateway.ts', String(port), 'session');
const startHttpProxy3: StartForwarder = port => startNodeServer('http-proxy-3.ts', String(port));

type Work = Pick<ForwardOptions, 'answerSize' | 'requestSize' | 'hasSession'>;

const CONNECTIONS = 64;

/** CPU time of the proxy for one request, in µs. The backend's does not count. */
function forwards(start: StartForwarder, work: Work): Measurement {
  return async ({ warmUpMs, measureMs, checkout }) => {
    await using backend = await startNodeServer('http-backend.ts');
    await using proxy = await start(backend.port, checkout);
    const options: ForwardOptions = {
      ...{ port: proxy.port, pid: proxy.pid, connections: CONNECTIONS },
      ...{ warmUpMs, measureMs, ...work },
    };
    await using load = startLoad('forward.ts', options);
    const { cpuNs, messages } = await load.next<LoadResult>();
    return cpuNs / messages / 1000;
  };
}

function compared(
  row: string,
  work: Work,
  peer: string,
  theirs: StartForwarder,
  limit: number | null = null,
): Comparison {
  const { hasSession } = work;
  return {
    ...{ row, peer, unit: 'µs CPU/request', limit },
    ours: forwards(hasSession ? startHoldfastWithSession : startHoldfast, work),
    // A peer has no sessions: it does the same work without them.
    theirs: forwards(theirs, { ...work, hasSession: false }),
  };
}

const small: Work = { answerSize: 1024, requestSize: 0, hasSession: false };
const post: Work = { ...small, requestSize: 4096 };
const large: Work = { ...small, answerSize: 1024 * 1024 };

const GET = 'GET, 1 KiB answer';
const POST = 'POST of 4 KiB, 1 KiB answer';
const LARGE = 'GET, 1 MiB answer';

export const suite: Suite = {
  title: `HTTP requests through a proxy, ${CONNECTIONS} kept connections, by CPU time of the proxy`,
  comparisons: [
    compared(GET, small, 'http-proxy-3', startHttpProxy3, 0.5),
    compared(GET, small, 'nginx', startNginx),
    compared(GET, small, 'Apache', startApache),
    compared(`${GET}, with a session`, { ...small, hasSession: true }, 'http-proxy-3 without', startHttpProxy3),
    compared(POST, post, 'http-proxy-3', startHttpProxy3),
    compared(POST, post, 'nginx', startNginx),
    compared(POST, post, 'Apache', startApache),
    compared(LARGE, large, 'http-proxy-3', startHttpProxy3),
    compared(LARGE, large, 'nginx', startNginx),
    compared(LARGE, large, 'Apache', startApache),
  ],
};
