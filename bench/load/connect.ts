// Opens WebSockets one after the other on each of several lines: handshake, one echo, reset; and counts them.
import { connect } from 'node:net';
import { clientFrame, serverFrame, TEXT } from './frames.ts';
import { measureWindow, runTurns, settle, type WindowOptions } from './window.ts';

export interface ConnectOptions extends WindowOptions {
  port: number;
  path: string;
  /** Handshakes under way at once. */
  lines: number;
}

const options = JSON.parse(process.argv[2]!) as ConnectOptions;
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='; // of KEY, from RFC 6455 section 1.3
const payload = Buffer.from('hello');
const request = `GET ${options.path} HTTP/1.1\r\nHost: 127.0.0.1:${options.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n\r\n`;
const frame = clientFrame(TEXT, payload, Buffer.from([1, 2, 3, 4]));
const echo = serverFrame(TEXT, payload).toString('latin1');
let opened = 0;
let busy = 0;
let isStopping = false;

await runTurns(options, async window => {
  isStopping = false;
  busy = options.lines;
  for (let i = 0; i < options.lines; i++) next();
  const result = await measureWindow(window, () => opened, missing);
  isStopping = true;
  await settle(() => busy === 0, missing);
  return result;
});

function next(): void {
  if (isStopping) {
    busy--;
    return;
  }
  let text = '';
  let isOpen = false;
  const socket = connect({ port: options.port, host: '127.0.0.1', noDelay: true });
  socket.write(request);
  socket.on('data', chunk => {
    text += chunk.toString('latin1');
    if (!isOpen) {
      const end = text.indexOf('\r\n\r\n');
      if (end < 0) return;
      const head = text.slice(0, end);
      if (!head.startsWith('HTTP/1.1 101') || !head.includes(ACCEPT))
        throw new Error(`the handshake was answered with ${JSON.stringify(head)}`);
      isOpen = true;
      text = text.slice(end + 4);
      socket.write(frame);
    }
    if (text.length < echo.length) return;
    if (text !== echo) throw new Error('an echo that differs');
    opened++;
    socket.on('close', next);
    // Without TIME_WAIT, which would use up the ports.
    socket.resetAndDestroy();
  });
}

function missing(): string {
  return `${busy} handshakes are under way`;
}
