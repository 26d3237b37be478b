import { checkOptions } from '../base/options.ts';
import {
  CONNECT_OPTIONS,
  type ConnectOptions,
  connectWebSocket,
  type WebSocketClient,
} from '../websocket/protocol/client.ts';

export type { ClientCloseEvent, ConnectOptions, WebSocketClient } from '../websocket/protocol/client.ts';

const DEFAULT_TIMEOUT_MS = 5_000;

/**
 * Opens a WebSocket to a server under test. A server that does not answer the handshake within 5 s fails the test
 * instead of hanging it; pass a `signal` for another limit.
 *
 * @throws {HoldfastError} ERR_WS_BAD_HANDSHAKE with `status` when the server refuses; ERR_WS_CONNECTION_LOST when there
 * is no connection.
 * @example
 * import { testClient } from 'holdfast/testing';
 *
 * await using client = await testClient(`${server.urls[0]}/chat`, { headers: { 'Accept-Language': 'de' } });
 * client.send('hello');
 * console.log(await client.receive()); // hello
 */
export async function testClient(url: string | URL, options: ConnectOptions = {}): Promise<WebSocketClient> {
  checkOptions('testClient', options, CONNECT_OPTIONS);
  return connectWebSocket(url, { signal: AbortSignal.timeout(DEFAULT_TIMEOUT_MS), ...options });
}
