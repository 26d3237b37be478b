import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { Http2Client } from '../server/http2-client.ts';
import type { Served, Wire } from './served.ts';

export interface Question {
  readonly path: string;
  /** Default GET. */
  readonly method?: string;
  /** Name, value, name, value ... Default: none beside `Host`. */
  readonly headers?: readonly string[];
  /** Default `localhost`. */
  readonly host?: string;
  /** Asks for a WebSocket. Default false. */
  readonly isUpgrade?: boolean;
  /** The address of this machine that the client has. Default `127.0.0.1`. */
  readonly from?: string;
}

export interface Answer {
  /** Over HTTP/2 the answer to an upgrade is 200 where HTTP/1 has 101; here it is 101 for both. */
  readonly status: number;
  readonly body: string;
  /** The values of its `Set-Cookie` lines. */
  readonly setCookies: readonly string[];
}

/** One request on a connection of its own, over any wire. What a WebSocket would carry is not read. */
export async function ask(served: Served, wire: Wire, question: Question): Promise<Answer> {
  const { path, method = 'GET', headers = [], host = 'localhost', isUpgrade = false, from = '127.0.0.1' } = question;
  const socket = await dial(served, wire, from);
  if (wire === 'http/2') return askHttp2(served, socket as TLSSocket, question);
  const lines = [`${method} ${path} HTTP/1.1`, `Host: ${host}`];
  for (let i = 0; i < headers.length; i += 2) lines.push(`${headers[i]}: ${headers[i + 1]}`);
  if (isUpgrade)
    lines.push(
      ...['Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13'],
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    );
  else lines.push('Connection: close');
  socket.write(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
  let text = '';
  for await (const chunk of socket) {
    text += chunk.toString('latin1');
    if (/^HTTP\/1.1 101 [\s\S]*\r\n\r\n/.test(text)) break;
  }
  socket.destroy();
  const end = text.indexOf('\r\n\r\n');
  const setCookies = Array.from(text.slice(0, end).matchAll(/^set-cookie: *(.*?) *$/gim), ([, value]) => value!);
  return { status: Number(text.split(' ')[1]), body: text.slice(end + 4), setCookies };
}

async function askHttp2(served: Served, socket: TLSSocket, question: Question): Promise<Answer> {
  const { path, method = 'GET', headers = [], host = 'localhost', isUpgrade = false } = question;
  using client = await Http2Client.connect(served.url('http/2'), socket);
  const fields: Record<string, string | string[]> = { ':authority': host, ':path': path };
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!.toLowerCase();
    const earlier = fields[name];
    fields[name] = earlier === undefined ? headers[i + 1]! : [earlier, headers[i + 1]!].flat();
  }
  if (!isUpgrade) {
    const { status, body, headers: received } = await client.request({ ':method': method, ...fields });
    return { status, body, setCookies: received['set-cookie'] ?? [] };
  }
  const { status, stream, headers: received } = await client.knock(path, fields);
  const setCookies = received['set-cookie'] ?? [];
  if (status === 200) return { status: 101, body: '', setCookies };
  let body = '';
  for await (const chunk of stream) body += chunk;
  return { status, body, setCookies };
}

async function dial(served: Served, wire: Wire, localAddress: string): Promise<Socket> {
  const options = { host: '127.0.0.1', port: served.port(wire), localAddress };
  const ALPNProtocols = [wire === 'http/2' ? 'h2' : 'http/1.1'];
  const socket =
    wire === 'http/1'
      ? connect({ ...options, allowHalfOpen: true })
      : connectTls({ ...options, rejectUnauthorized: false, ALPNProtocols });
  socket.on('error', () => {});
  await once(socket, wire === 'http/1' ? 'connect' : 'secureConnect');
  return socket;
}
