import { once } from 'node:events';
import { onTestFinished } from 'vitest';
import { type ClientOptions, WebSocket } from 'ws';
import { ExampleProcess } from './example-process.ts';

/** Starts an example; it ends with the test. */
export async function start(name: string, environment?: Readonly<Record<string, string>>): Promise<ExampleProcess> {
  const example = new ExampleProcess(name, environment);
  // Not `afterEach`, which a module that files share would say for the first of them alone.
  onTestFinished(() => example.dispose());
  await example.start();
  return example;
}

/** A client that says it is a page of the example, unless told otherwise. It ends with the test. */
export function connect(
  example: Pick<ExampleProcess, 'origin' | 'url'>,
  path: string,
  options: ClientOptions = {},
): WebSocket {
  const socket = new WebSocket(example.url(path).replace('http', 'ws'), { origin: example.origin, ...options });
  // Whoever waits for the error has a listener of their own.
  socket.on('error', () => {});
  onTestFinished(() => socket.terminate());
  return socket;
}

/** The same, when it is open. */
export async function open(example: ExampleProcess, path: string, options?: ClientOptions): Promise<WebSocket> {
  const socket = connect(example, path, options);
  await once(socket, 'open');
  return socket;
}

export async function nextMessage(socket: WebSocket): Promise<string> {
  const [data] = await once(socket, 'message');
  return String(data);
}

export async function ask(socket: WebSocket, question: string): Promise<string> {
  if (socket.readyState === WebSocket.CONNECTING) await once(socket, 'open');
  socket.send(question);
  return nextMessage(socket);
}

/** The status with which the handshake is refused. */
export async function refusedWith(socket: WebSocket): Promise<number> {
  const [, response] = await once(socket, 'unexpected-response');
  socket.terminate();
  return response.statusCode;
}

export async function closeCode(socket: WebSocket): Promise<number> {
  return (await once(socket, 'close'))[0];
}
