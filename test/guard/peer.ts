import type { Socket } from 'node:net';

/** A connection for bytes of HTTP/1, with all that it was sent. */
export class Peer implements Disposable {
  readonly socket: Socket;
  text = '';
  /** Also when only the other side has ended it: nothing can be had from it any more. */
  isClosed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', chunk => {
      this.text += chunk.toString('latin1');
    });
    for (const event of ['end', 'close', 'error'])
      socket.on(event, () => {
        this.isClosed = true;
      });
  }

  /** Goes on with this, so often, until it is closed. */
  async trickle(bytes: string, everyMs = 100): Promise<void> {
    while (!this.isClosed) {
      this.socket.write(bytes);
      await new Promise(resolve => setTimeout(resolve, everyMs));
    }
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** Does this so often, until it is disposed of. */
export function every(ms: number, work: () => void): Disposable {
  const timer = setInterval(work, ms);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
