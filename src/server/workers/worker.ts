import type { Serializable } from 'node:child_process';
import type { Administered, StreamKind, StreamQuery } from '../../admin/administered.ts';
import { LineQueue } from '../../admin/line-queue.ts';
import type { Duration } from '../../base/duration.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { PortOf } from '../listeners.ts';
import type { MetricJson } from '../metrics/exposition.ts';
import type { Question } from './administered-workers.ts';
import type { HandedConnection } from './handed-connection.ts';
import { Link, type LinkMessage, sent } from './link.ts';
import type { WorkerReady, WorkerReload } from './supervisor.ts';
import { socketOf, WorkerPorts } from './worker-ports.ts';

/** What the supervisor may ask of a worker. */
export interface WorkerServer {
  administered(): Promise<Administered>;
  metricsOfProcess(): Promise<readonly MetricJson[]>;
  /** Reads the configuration again. */
  reload(): Promise<WorkerReload>;
  stop(options: { readonly drain?: Duration; readonly restart?: boolean }): void;
  /** The supervisor has ended. What it would have told this process to do: another supervisor may run already. */
  leave(): void;
}

/** Messages with lines that are on their way. */
const MOST_ON_THE_WAY = 64;

/** This process as a worker: its side of the channel to the supervisor. */
export class Worker {
  readonly #link: Link;
  readonly #ports: WorkerPorts;
  readonly #following = new Map<number, Promise<() => void>>();
  #administered: Promise<Administered> | undefined;
  #isClosed = false;

  constructor(server: WorkerServer) {
    this.#link = new Link(message => this.#send(message), {
      administer: async (question: Question, args: readonly unknown[]) => {
        if (question === 'metricsOfProcess') return server.metricsOfProcess();
        this.#administered ??= server.administered();
        const administered = await this.#administered;
        return (administered[question] as (...args: readonly unknown[]) => unknown)(...args);
      },
      reload: () => server.reload(),
      hasCome: (id: number) => this.#ports.say(id),
      stop: (options: { drain?: Duration; restart?: boolean }) => server.stop(options),
      follow: async (id: number, kind: StreamKind, query: StreamQuery) => {
        this.#administered ??= server.administered();
        const following = this.#administered.then(one => one.follow(kind, query, this.#linesOf(id)));
        this.#following.set(id, following);
        following.catch(() => this.#following.delete(id));
        await following;
      },
      unfollow: (id: number) => {
        // Where it could not begin, `follow` has said why.
        this.#following.get(id)?.then(
          end => end(),
          () => {},
        );
        this.#following.delete(id);
      },
    });
    this.#ports = new WorkerPorts(this.#link);
    process.on('message', (message, handle) => {
      const { kind } = message as HandedConnection | LinkMessage;
      if (kind === 'connection') this.#ports.receive(message as HandedConnection, socketOf(handle));
      else this.#link.receive(message as LinkMessage);
    });
    process.once('disconnect', () => {
      if (this.#isClosed) return;
      this.#link.end(new HoldfastError('ERR_SERVER_STATE', 'the supervisor has ended'));
      server.leave();
    });
  }

  get portOf(): PortOf {
    return this.#ports.portOf;
  }

  ready(ready: WorkerReady): void {
    this.#link.tell('ready', ready);
  }

  /** It could not start. */
  failed(error: unknown): void {
    const { code, message } = sent(error);
    this.#link.tell('failed', code, message);
  }

  /** Lets go of the supervisor: the process may end. */
  close(): void {
    this.#isClosed = true;
    if (process.connected) process.disconnect?.();
  }

  #linesOf(id: number): (line: object) => void {
    let onTheWay = 0;
    const queue = new LineQueue({
      write: text => {
        onTheWay++;
        const message: LinkMessage = { kind: 'tell', method: 'line', args: [id, text] };
        this.#send(message as unknown as Serializable, () => {
          onTheWay--;
          if (onTheWay === 0) queue.resume();
        });
        return onTheWay < MOST_ON_THE_WAY;
      },
    });
    return line => queue.push(line);
  }

  #send(message: Serializable, done: () => void = () => {}): void {
    if (process.connected) process.send?.(message, undefined, undefined, done);
  }
}
