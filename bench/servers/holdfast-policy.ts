// A gateway to the port given, whose route has the policy of the arguments: `open`, or `jwt` with a file of keys.
import { type Config, createServer } from 'holdfast';
import { ready } from './control.ts';

const [, , backendPort, policy, file] = process.argv;
const auth: NonNullable<Config['auth']> =
  policy === 'jwt'
    ? {
        api: {
          type: 'jwt',
          issuer: 'https://issuer.example',
          audience: 'bench',
          jwksFile: file!,
          roles: { user: ['*'] },
        },
      }
    : {};
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
