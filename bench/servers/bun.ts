// Runs on Bun, whose types are not installed: what is used of them stands here.
import { ready } from './control.ts';

interface BunSocket {
  send(data: string | Uint8Array): void;
  subscribe(topic: string): void;
}
interface BunServer {
  readonly port: number;
  upgrade(request: Request): boolean;
  publish(topic: string, data: string | Uint8Array): void;
}
declare const Bun: {
  gc(force: boolean): void;
  serve(options: {
    port: number;
    hostname: string;
    fetch(request: Request, server: BunServer): Response | undefined;
    websocket: { open(socket: BunSocket): void; message(socket: BunSocket, data: string | Uint8Array): void };
  }): BunServer;
};

const isPublishing = process.argv[2] === 'publish';
const server = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  fetch: (request, server) => (server.upgrade(request) ? undefined : new Response(null, { status: 426 })),
  websocket: {
    open: socket => {
      if (isPublishing) socket.subscribe('all');
    },
    message: (socket, data) => {
      if (isPublishing) server.publish('all', data);
      else socket.send(data);
    },
  },
});
ready(server.port, () => Bun.gc(true));
