// Two servers in one process: at the first port one with logs and metrics, at the second one without. Their target: `handler`
// answers as the backend of suite `forward` does, `endpoint` echoes, and anything else is the port of a backend. Behind that a
// folder for logs, the two ports, and any of `metrics`, `json`, `combined` and `LogFormat`, which is Apache's combined format
// as text.
import { join } from 'node:path';
import { type Config, createServer, defineEndpoint } from 'holdfast';
import { bodyOf } from './bodies.ts';
import { ready } from './control.ts';

const [, , target, folder, port, portWithout, ...kept] = process.argv;
const formats: Record<string, string> = {
  ...{ json: 'json', combined: 'combined' },
  LogFormat: '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
};
const destinations = kept.flatMap(name => {
  const format = formats[name];
  return format === undefined ? [] : [{ format, file: join(folder!, `${name}.log`) }];
});
const access = destinations.length > 0 ? destinations : 'off';
const without: Config = {
  // Connections wait for their turns.
  ...{ headerTimeout: '10m', keepAliveTimeout: '10m', session: false },
  upstreams: Number(target) > 0 ? { app: { servers: [`http://127.0.0.1:${target}`] } } : {},
  log: { level: 'warn', access: 'off' },
};
const at = (port: string) => ({ listen: [{ port: Number(port), host: '127.0.0.1' }], routes: [route()] });
const metrics = kept.includes('metrics');
await createServer({ ...without, ...at(port!), metrics, log: { level: 'warn', access } }).start();
await createServer({ ...without, ...at(portWithout!) }).start();
ready(Number(port), () => globalThis.gc?.());

function route(): NonNullable<Config['routes']>[number] {
  switch (target) {
    case 'endpoint':
      return { endpoint: defineEndpoint({ path: '/', onMessage: (connection, data) => void connection.send(data) }) };
    case 'handler':
      return {
        path: '/*',
        fetch({ url }) {
          const [, index, size] = new URL(url).pathname.split('/').map(Number);
          const body = bodyOf(index!, size!);
          const headers = { 'Content-Type': 'text/plain; charset=utf-8', 'Content-Length': String(body.length) };
          return new Response(body as Buffer<ArrayBuffer>, { headers });
        },
      };
    default:
      return { path: '/*', upstream: 'app' };
  }
}
