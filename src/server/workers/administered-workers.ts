import type { Administered, StreamKind, StreamQuery } from '../../admin/administered.ts';
import {
  mergeBans,
  mergeConnections,
  mergeLimits,
  mergeStatus,
  mergeTopics,
  mergeUpstreams,
  type OfWorker,
} from '../../admin/merge.ts';
import type {
  BanAddition,
  BanEntry,
  BanList,
  BanQuery,
  CloseRequest,
  Configuration,
  ConnectionList,
  ConnectionQuery,
  DrainRequest,
  LimitList,
  LogLevelChange,
  LogLevels,
  ReloadResult,
  ServerAddition,
  ServerDrain,
  ServerRemoval,
  SessionDetail,
  SessionList,
  SessionQuery,
  Status,
  TopicList,
  TopicQuery,
  UpstreamList,
} from '../../admin/shapes.ts';
import { USUAL_CONNECTIONS, USUAL_ENTRIES } from '../../admin/usual-limits.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { AdministeredLogs } from '../administered-logs.ts';
import { aggregateMetrics, type MetricJson, type MetricsText } from '../metrics/exposition.ts';
import type { Link } from './link.ts';
import type { WorkerFollowers } from './worker-followers.ts';
import type { WorkerMetrics } from './worker-metrics.ts';

/** A worker that can be asked. */
export interface AskedWorker {
  readonly number: number;
  /** It is about to end, and may have a configuration of before. */
  readonly isLeaving: boolean;
  readonly link: Link;
}

/** What a worker answers. */
export type Question = keyof Administered | 'metricsOfProcess';

/** What the supervisor knows and does itself. */
export interface SupervisorOperations {
  readonly logs: AdministeredLogs;
  readonly followers: WorkerFollowers;
  readonly metrics: WorkerMetrics;
  /** Those that run; the ones that are leaving last. */
  workers(): readonly AskedWorker[];
  /** Its own, as `status`. */
  health(): Pick<Status, 'state' | 'isReady'>;
  status(): Status;
  reload(): Promise<ReloadResult>;
  drain(request: DrainRequest): void;
  reopenLogs(): Promise<void>;
  /** Does it keep metrics? */
  hasMetrics(): boolean;
}

/** One that does not answer is left out, or the whole administration would stand still with it. */
const ANSWER_MS = 5_000;
/** A search through all sessions takes its time. */
const SEARCH_MS = 30_000;

/**
 * The administration of several workers as if they were one server. What each of them has is asked of all and put
 * together; what all have in common (sessions) is asked of one.
 */
export class AdministeredWorkers implements Administered {
  readonly #supervisor: SupervisorOperations;

  constructor(supervisor: SupervisorOperations) {
    this.#supervisor = supervisor;
  }

  async health(): Promise<Pick<Status, 'state' | 'isReady'>> {
    return this.#supervisor.health();
  }

  async status(): Promise<Status> {
    // Also while none runs: then somebody looks for what is wrong.
    const answers = await this.#fromEach<Status>('status', []).catch(() => []);
    const own = this.#supervisor.status();
    return { ...mergeStatus(own, answers), isReady: own.isReady };
  }

  sessions(query: SessionQuery): Promise<SessionList> {
    return this.#fromOne('sessions', [query], SEARCH_MS);
  }

  async session(sid: string): Promise<SessionDetail> {
    const details = await this.#ofAll<SessionDetail>('session', [sid], SEARCH_MS);
    return {
      ...details[0]!,
      isInMemory: details.some(({ isInMemory }) => isInMemory),
      sockets: sum(details.map(({ sockets }) => sockets)),
    };
  }

  endSession(sid: string): Promise<number> {
    return this.#fromOne('endSession', [sid], SEARCH_MS);
  }

  endSessionsOf(user: string): Promise<number> {
    return this.#fromOne('endSessionsOf', [user], SEARCH_MS);
  }

  async connections(query: ConnectionQuery): Promise<ConnectionList> {
    const answers = await this.#fromEach<ConnectionList>('connections', [query]);
    return mergeConnections(answers, query.limit ?? USUAL_CONNECTIONS);
  }

  async closeConnections(request: CloseRequest): Promise<number> {
    return sum(await this.#ofAll<number>('closeConnections', [request]));
  }

  async upstreams(): Promise<UpstreamList> {
    return mergeUpstreams(await this.#fromEach<UpstreamList>('upstreams', []));
  }

  async drainServer(upstream: string, request: ServerDrain): Promise<void> {
    await this.#ofAll('drainServer', [upstream, request]);
  }

  async resumeServer(upstream: string, server: string): Promise<void> {
    await this.#ofAll('resumeServer', [upstream, server]);
  }

  async addServer(upstream: string, request: ServerAddition): Promise<void> {
    await this.#ofAll('addServer', [upstream, request]);
  }

  async removeServer(upstream: string, request: ServerRemoval): Promise<void> {
    await this.#ofAll('removeServer', [upstream, request]);
  }

  async bans(query: BanQuery): Promise<BanList> {
    return mergeBans(await this.#fromEach<BanList>('bans', [query]), query.limit ?? USUAL_ENTRIES);
  }

  async addBan(request: BanAddition): Promise<BanEntry> {
    return (await this.#ofAll<BanEntry>('addBan', [request]))[0]!;
  }

  async removeBan(client: string): Promise<boolean> {
    return (await this.#ofAll<boolean>('removeBan', [client])).includes(true);
  }

  async topics(query: TopicQuery): Promise<TopicList> {
    return mergeTopics(await this.#fromEach<TopicList>('topics', [query]), query.limit ?? USUAL_ENTRIES);
  }

  async limits(): Promise<LimitList> {
    return mergeLimits(await this.#fromEach<LimitList>('limits', []));
  }

  configuration(): Promise<Configuration> {
    return this.#fromOne('configuration', []);
  }

  reload(): Promise<ReloadResult> {
    return this.#supervisor.reload();
  }

  async drain(request: DrainRequest): Promise<void> {
    this.#supervisor.drain(request);
  }

  async logLevels(): Promise<LogLevels> {
    return this.#supervisor.logs.levels();
  }

  async setLogLevel(change: LogLevelChange): Promise<LogLevels> {
    const levels = this.#supervisor.logs.setLevel(change);
    await this.#ofAll('setLogLevel', [change]);
    return levels;
  }

  reopenLogs(): Promise<void> {
    return this.#supervisor.reopenLogs();
  }

  async metrics(): Promise<MetricsText> {
    if (!this.#supervisor.hasMetrics())
      throw new HoldfastError(
        'ERR_ADMIN_NOT_FOUND',
        'this server keeps no metrics; add "metrics: true" to its configuration',
        { status: 404 },
      );
    const answers = await this.#fromEach<readonly MetricJson[]>('metricsOfProcess', []);
    const running = new Set(this.#supervisor.workers().map(({ number }) => number));
    return aggregateMetrics(this.#supervisor.metrics.read(answers, running));
  }

  follow(kind: StreamKind, query: StreamQuery, onLine: (line: object) => void): Promise<() => void> {
    return this.#supervisor.followers.follow(kind, query, onLine);
  }

  /** What those say that answer in time. @throws {HoldfastError} what the first one throws when none does. */
  async #fromEach<T>(method: Question, args: readonly unknown[], limitMs = ANSWER_MS): Promise<OfWorker<T>[]> {
    const workers = this.#workers();
    const answers = await Promise.allSettled(workers.map(({ link }) => ask<T>(link, method, args, limitMs)));
    const good = answers.flatMap((answer, i) =>
      answer.status === 'fulfilled' ? [{ worker: workers[i]!.number, answer: answer.value }] : [],
    );
    const [first] = answers;
    if (good.length === 0 && first?.status === 'rejected') throw first.reason;
    return good;
  }

  /** Each of them does it. @throws {HoldfastError} what the first one throws that cannot, when all others have done it. */
  async #ofAll<T = void>(method: Question, args: readonly unknown[], limitMs = ANSWER_MS): Promise<T[]> {
    const answers = await Promise.allSettled(this.#workers().map(({ link }) => ask<T>(link, method, args, limitMs)));
    return answers.map(answer => {
      if (answer.status === 'rejected') throw answer.reason;
      return answer.value;
    });
  }

  /** The one that answers first, so that none is asked that stands still. One that is leaving: only where no other answers. */
  async #fromOne<T>(method: Question, args: readonly unknown[], limitMs = ANSWER_MS): Promise<T> {
    const asked = this.#workers().map(({ link, isLeaving }) => ({
      isLeaving,
      answers: ask(link, 'health', [], ANSWER_MS).then(() => link),
    }));
    const any = Promise.any(asked.map(({ answers }) => answers));
    const staying = Promise.any(asked.filter(({ isLeaving }) => !isLeaving).map(({ answers }) => answers));
    const link = await staying.catch(() => any).catch((error: AggregateError) => Promise.reject(error.errors[0]));
    return ask(link, method, args, limitMs);
  }

  /** @throws {HoldfastError} ERR_SERVER_STATE: there is none at the moment. */
  #workers(): readonly AskedWorker[] {
    const workers = this.#supervisor.workers();
    if (workers.length > 0) return workers;
    throw new HoldfastError('ERR_SERVER_STATE', 'no worker process runs at the moment; try again in a second', {
      status: 503,
    });
  }
}

function ask<T>(link: Link, method: Question, args: readonly unknown[], limitMs: number): Promise<T> {
  return link.call('administer', [method, args], limitMs);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, one) => all + one, 0);
}
