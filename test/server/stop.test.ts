import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

test('the process lives until stop has done everything, although nothing else keeps it alive', async () => {
  const program = `
    import { createServer, defineEndpoint } from 'holdfast';
    const endpoint = defineEndpoint({ path: '/', destroy: () => console.log('destroyed') });
    const server = createServer({
      session: false,
      listen: [{ port: 0, host: '127.0.0.1' }],
      routes: [{ endpoint }],
      log: { level: 'silent', access: 'off' },
    });
    await server.start();
    const socket = new WebSocket(server.urls[0]);
    socket.onopen = () => server.stop().then(() => console.log('stopped'));
  `;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['-C', 'holdfast-source', '--input-type=module', '--eval', program],
    { cwd: fileURLToPath(new URL('../..', import.meta.url)) },
  );
  expect(stdout).toBe('destroyed\nstopped\n');
});
