import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { emptyAddressList } from '../../src/http/address-list.ts';
import { isRefusal, type Refusal } from '../../src/http/refusal.ts';
import { type ReadRequestHeadOptions, type RequestHead, readRequestHead } from '../../src/http/request-head.ts';

/** Sends these bytes to a real server over a real socket and reads the facts of what arrives. */
export async function receiveHead(
  lines: readonly string[],
  options: ReadRequestHeadOptions = { trustedProxies: emptyAddressList },
  listen: { host: string; connectTo?: string } = { host: '127.0.0.1' },
): Promise<RequestHead | Refusal> {
  const server = createServer({ requireHostHeader: false });
  const received = new Promise<RequestHead | Refusal>((resolve, reject) => {
    const read = (request: IncomingMessage) => resolve(readRequestHead(request, options));
    server.on('request', read);
    server.on('upgrade', read);
    server.on('connect', read);
    server.on('clientError', reject);
  });
  server.listen(0, listen.host);
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, listen.connectTo ?? listen.host);
  try {
    await once(socket, 'connect');
    socket.write(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
    return await received;
  } finally {
    socket.destroy();
    server.closeAllConnections();
    server.close();
  }
}

/** The same, for a request that is fine. */
export async function receiveGoodHead(...parameters: Parameters<typeof receiveHead>): Promise<RequestHead> {
  const head = await receiveHead(...parameters);
  if (isRefusal(head)) throw new Error(`refused: ${head.reason}`);
  return head;
}
