/** The module of handlers that compute for half a second each. */
export const COMPUTING = `
export function compute() {
  const end = performance.now() + 500;
  while (performance.now() < end);
}
export function onMessage(connection) {
  compute();
  connection.send('computed');
}
`;
/** Four of these handlers at once, in threads and in the main thread, and an endpoint beside them. */
export const CONFIG = `
import { compute } from './computing.mjs';
const beside = defineEndpoint({ path: '/beside', onMessage: (connection, data) => void connection.send(data) });
const inThreads = defineEndpoint({
  path: '/threads', dispatch: { threads: 4 }, handlers: new URL('./computing.mjs', import.meta.url),
});
const inMain = defineEndpoint({
  path: '/main', dispatch: { concurrency: 4 }, onMessage: connection => { compute(); connection.send('computed'); },
});
export default defineConfig({ listen, session: false, routes: [beside, inThreads, inMain].map(endpoint => ({ endpoint })) });
`;
