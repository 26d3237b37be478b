import { type ChildProcess, fork, type Serializable } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { Duration } from '../../base/duration.ts';
import { HoldfastError } from '../../base/errors.ts';
import { type HandedConnection, RECEIPT_FD, ReceiptReader } from './handed-connection.ts';
import type { Taker } from './handover.ts';
import { Link, type LinkMessage, type LinkMethods } from './link.ts';
import { WORKER_VARIABLE } from './worker-variable.ts';

/** How a worker ended. */
export interface WorkerEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** It could not even be started. */
  readonly error?: Error;
}

export interface WorkerOptions {
  readonly number: number;
  /** What it may call. */
  methods(worker: WorkerProcess): LinkMethods;
  onReceipt(worker: WorkerProcess, id: number, isTaken: boolean): void;
}

/** A worker as the supervisor sees it: the same program, with the same arguments, in a process of its own. */
export class WorkerProcess implements Taker {
  readonly number: number;
  readonly link: Link;
  /** Every receipt that it has written has been read then. */
  readonly ended: Promise<WorkerEnd>;
  readonly startedAt = Date.now();
  readonly #child: ChildProcess;

  constructor({ number, methods, onReceipt }: WorkerOptions) {
    this.number = number;
    const child = fork(process.argv[1]!, process.argv.slice(2), {
      env: { ...process.env, [WORKER_VARIABLE]: String(number) },
      // It cannot have the inspector's port of this process.
      execArgv: process.execArgv.filter(argument => !argument.startsWith('--inspect')),
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', 'pipe'],
    });
    this.#child = child;
    this.link = new Link(message => this.#send(message), methods(this));
    child.on('message', message => this.link.receive(message as LinkMessage));
    const receipts = new ReceiptReader((id, isTaken) => onReceipt(this, id, isTaken));
    // Without a descriptor for it Node makes none.
    const pipe = child.stdio?.[RECEIPT_FD] as Readable | undefined;
    pipe?.on('data', (chunk: Buffer) => receipts.read(chunk)).on('error', () => {});
    this.ended = new Promise(resolve => {
      const end = (ended: WorkerEnd) => {
        this.link.end(new HoldfastError('ERR_SERVER_STATE', `worker ${number} has ended`));
        resolve(ended);
      };
      // Comes when its pipes have been read to their ends. Programs that it has started may hold stdout, not the pipe.
      child.once('close', (code, signal) => end({ code, signal }));
      child.on('error', error => {
        if (child.pid === undefined) end({ code: null, signal: null, error });
      });
    });
  }

  /** 0: it could not be started. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Gives it a connection, which stays open here until it has taken it. */
  hand(connection: HandedConnection, socket: Socket): void {
    this.#child.send(connection, socket, { keepOpen: true }, ignore);
  }

  ask(id: number): void {
    this.link.tell('hasCome', id);
  }

  /** It is to stop gracefully, or sooner when it is stopping already. */
  stop(options: { readonly drain?: Duration | undefined; readonly restart?: boolean }): void {
    this.link.tell('stop', options);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  #send(message: Serializable): void {
    // What does not arrive any more is answered by its end.
    if (this.#child.connected) this.#child.send(message, ignore);
  }
}

const ignore = () => {};
