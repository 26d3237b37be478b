// What a route with a policy leads to: a gateway to the port given, or an endpoint that echoes (`endpoint` in its place). Its
// policy: `open`, `jwt` with a file of keys, `basic` or `form` with a password file, or `chain`, which has every policy that
// judges a request by itself.
import { type Config, createServer, defineEndpoint } from 'holdfast';
import { ready } from './control.ts';

type PolicyConfig = NonNullable<Config['policy']>;

const [, , target, policy, file] = process.argv;
const roles = { user: ['*'] };
const schemes: Record<string, NonNullable<Config['auth']>> = {
  jwt: { api: { type: 'jwt', issuer: 'https://issuer.example', audience: 'bench', jwksFile: file!, roles } },
  basic: { staff: { type: 'basic', file: file!, roles } },
  form: { staff: { type: 'form', file: file!, roles } },
};
/** None of them refuses anything here: what is measured is the asking. */
const chain: PolicyConfig = {
  addresses: { allow: ['127.0.0.0/8', '::1/128'], deny: ['192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24'] },
  origins: ['self', 'https://app.example', 'https://*.example.com'],
  limits: {
    connections: 1_000_000,
    connectionsPerAddress: 1_000_000,
    requestsPerAddress: '1000000/s',
    handshakesPerAddress: '1000000/s',
    messages: '1000000/s',
    bytes: '1GiB/s',
  },
  inspect: { rules: [{ name: 'hidden-files', in: 'path', match: /\.(?:php|env|git)/i }] },
};
const auth = schemes[policy!] ?? {};
const names = Object.keys(auth);
const own: PolicyConfig = {
  ...(names.length > 0 && { auth: names, roles: ['user'] }),
  ...(policy === 'chain' && chain),
};
const echo = defineEndpoint({
  path: '/',
  onMessage(connection, data) {
    connection.send(data);
  },
});
const server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  // Connections wait for their turns.
  ...{ headerTimeout: '10m', keepAliveTimeout: '10m' },
  session: policy === 'form' || policy === 'visited' ? { store: 'memory:' } : false,
  auth,
  ...(policy === 'chain' && { bans: { action: 'refuse', allow: [] } }),
  upstreams: target === 'endpoint' ? {} : { app: { servers: [`http://127.0.0.1:${target}`] } },
  routes: [target === 'endpoint' ? { endpoint: echo, policy: own } : { path: '/*', upstream: 'app', policy: own }],
  log: { level: 'warn', access: 'off' },
});
await server.start();
ready(Number(new URL(server.urls[0]!).port), () => globalThis.gc?.());
