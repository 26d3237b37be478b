// A gateway to the port given, whose route has the policy of the arguments: `open`, `jwt` with a file of keys, or `basic`
// with a password file.
import { type Config, createServer } from 'holdfast';
import { ready } from './control.ts';

const [, , backendPort, policy, file] = process.argv;
const roles = { user: ['*'] };
const schemes: Record<string, NonNullable<Config['auth']>> = {
  jwt: { api: { type: 'jwt', issuer: 'https://issuer.example', audience: 'bench', jwksFile: file!, roles } },
  basic: { staff: { type: 'basic', file: file!, roles } },
};
const auth = schemes[policy!] ?? {};
const names = Object.keys(auth);
const server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  auth,
  upstreams: { app: { servers: [`http://127.0.0.1:${backendPort}`] } },
  routes: [{ path: '/*', upstream: 'app', ...(names.length > 0 && { policy: { auth: names, roles: ['user'] } }) }],
  log: { level: 'warn', access: 'off' },
});
await server.start();
ready(Number(new URL(server.urls[0]!).port), () => globalThis.gc?.());
