import type { StreamKind, StreamQuery } from '../../admin/administered.ts';
import type { AdministeredLogs } from '../administered-logs.ts';

/** A worker whose lines can be followed. */
export interface FollowedWorker {
  readonly link: {
    call(method: string, args: readonly unknown[], limitMs?: number): Promise<unknown>;
    tell(method: string, ...args: readonly unknown[]): void;
  };
}

interface Following {
  readonly kind: StreamKind;
  readonly query: StreamQuery;
  onLine(line: object): void;
}

const ANSWER_MS = 5_000;

/** Who follows the lines of all workers, also of those that start later. */
export class WorkerFollowers {
  readonly #logs: AdministeredLogs;
  readonly #workers: () => readonly FollowedWorker[];
  readonly #following = new Map<number, Following>();
  #count = 0;

  /** @param logs Those of the supervisor itself. */
  constructor(logs: AdministeredLogs, workers: () => readonly FollowedWorker[]) {
    this.#logs = logs;
    this.#workers = workers;
  }

  /** @throws {HoldfastError} ERR_ADMIN_BAD_REQUEST when that cannot be followed. */
  async follow(kind: StreamKind, query: StreamQuery, onLine: (line: object) => void): Promise<() => void> {
    const id = ++this.#count;
    const endOwn = kind === 'logs' ? this.#logs.follow(query, onLine) : () => {};
    this.#following.set(id, { kind, query, onLine });
    const end = () => {
      endOwn();
      this.#following.delete(id);
      for (const { link } of this.#workers()) link.tell('unfollow', id);
    };
    const workers = this.#workers();
    const begun = await Promise.allSettled(
      workers.map(({ link }) => link.call('follow', [id, kind, query], ANSWER_MS)),
    );
    const failed = begun.filter(one => one.status === 'rejected');
    // One that does not answer is left out; where nobody can follow this, all of them say so.
    if (failed.length < workers.length || failed.length === 0) return end;
    end();
    throw failed[0]!.reason;
  }

  /** A worker has started. */
  add({ link }: FollowedWorker): void {
    for (const [id, { kind, query }] of this.#following)
      link.call('follow', [id, kind, query], ANSWER_MS).catch(() => {});
  }

  /** Lines of a worker have come, each as JSON. */
  receive(id: number, text: string): void {
    const following = this.#following.get(id);
    if (!following) return;
    for (const line of text.split('\n')) if (line !== '') following.onLine(JSON.parse(line));
  }
}
