/** One of several servers whose users sign in at a provider. Prints a line when it listens; ends with its input. */
import { createServer, defineEndpoint } from 'holdfast';
import { CLIENT_ID } from '../services/oidc-provider.ts';

const [store, keyFile, port, issuer, secretFile] = process.argv.slice(2) as [string, string, string, string, string];

const server = createServer({
  listen: [{ port: Number(port), host: '127.0.0.1' }],
  session: { store, keyFiles: [keyFile] },
  auth: { idp: { type: 'oidc', issuer, clientId: CLIENT_ID, clientSecretFile: secretFile } },
  policy: { auth: 'idp', origins: 'any' },
  routes: [
    { endpoint: defineEndpoint({ path: '/socket', origins: 'accept' }) },
    { path: '/*', fetch: (_request, { user }) => Response.json({ name: user?.name, email: user?.claims?.email }) },
  ],
  log: { level: 'error', access: 'off' },
});
await server.start();
process.stdin.on('end', () => void server.stop({ drain: 0 }).then(() => process.exit())).resume();
process.stdout.write('ready\n');
