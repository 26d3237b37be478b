import { availableParallelism } from 'node:os';
import type { DrainRequest, ReloadResult, Status } from '../../admin/shapes.ts';
import type { CalmLogger } from '../../base/calm-logger.ts';
import { type Clock, systemClock, type Timer } from '../../base/clock.ts';
import { type Duration, parseDuration } from '../../base/duration.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/message-of.ts';
import type { Config, ListenConfig } from '../../config/config.ts';
import { createAddressList, ReplaceableAddressList } from '../../http/address-list.ts';
import { SecurityEvents } from '../../policy/security-events.ts';
import { Admin } from '../admin/admin.ts';
import { ChangingAdmin } from '../admin/changing-admin.ts';
import { AdministeredLogs } from '../administered-logs.ts';
import { drainSettings } from '../assembly/drain-settings.ts';
import { dataFolderOf } from '../data-folder.ts';
import type { LogControl } from '../log/log-control.ts';
import { keepsMetrics } from '../metrics/keeps-metrics.ts';
import { packageVersion } from '../package-version.ts';
import { type ProcessFacts, processStatus } from '../process-status.ts';
import type { ReloadReport } from '../take-over.ts';
import { AdministeredWorkers, type AskedWorker } from './administered-workers.ts';
import { Handover } from './handover.ts';
import { SharedPorts } from './shared-ports.ts';
import { WorkerFollowers } from './worker-followers.ts';
import { WorkerMetrics } from './worker-metrics.ts';
import { type WorkerEnd, WorkerProcess } from './worker-process.ts';

/** What a worker says when it serves. */
export interface WorkerReady {
  readonly urls: readonly string[];
  readonly internalUrl: string | undefined;
  /** Files behind its endpoints, beside those that the configuration is read from. */
  readonly imports: readonly string[];
}

/** What a worker says of a reload. */
export interface WorkerReload extends WorkerReady {
  readonly report: ReloadReport;
  /** Modules that have changed and that it cannot load again. */
  readonly outdated: readonly string[];
}

export interface SupervisorOptions {
  readonly logs: LogControl;
  readonly configFile: string;
  readonly clock?: Clock;
  reload(): Promise<ReloadResult>;
  lastReload(): Status['lastReload'];
  drain(request: { readonly over?: Duration | undefined }): void;
}

interface Member {
  readonly worker: WorkerProcess;
  state: 'starting' | 'ready' | 'leaving';
  readyAt: number;
  /** Why it could not start. */
  failure?: string;
  readonly ready: PromiseWithResolvers<void>;
}

/** Between the end of a worker and the start of another one: the first time, and at most. It doubles each time. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 30_000;
/** A worker that has served for so long has not failed to start. */
const WELL_MS = 10_000;
/** One worker puts a configuration together within this time. */
const RELOAD_MS = 120_000;
/** What a worker needs after its drain, to close its stores. */
const CLOSING_MS = 15_000;

/**
 * The process that worker processes work for. It has the ports and gives the workers what connects, has the admin API
 * and the service manager, and serves no traffic: what makes a worker fail is not in it.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #clock: Clock;
  readonly #logger: CalmLogger;
  /** What becomes of workers is said each time. */
  readonly #events: Pick<Logger, 'info' | 'error'>;
  readonly #members = new Set<Member>();
  readonly #ports: SharedPorts;
  readonly #handover: Handover;
  readonly #followers: WorkerFollowers;
  readonly #metrics = new WorkerMetrics();
  readonly #admin: ChangingAdmin;
  readonly #trustedProxies = new ReplaceableAddressList();
  readonly #process: ProcessFacts;
  #config: Config;
  #count = 0;
  #state: Status['state'] = 'starting';
  #urls: readonly string[] = [];
  #internalUrl: string | undefined;
  #imports: readonly string[] = [];
  /** How often workers have ended without having served for long, one time after the other. */
  #failures = 0;
  #pause: Timer | undefined;
  #pauseUntil = 0;
  #rolling: Promise<void> | undefined;
  /** Files that have changed for workers that the roll under way has started. */
  #outdated: readonly string[] = [];
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  constructor(config: Config, options: SupervisorOptions) {
    const { clock = systemClock, logs } = options;
    this.#config = config;
    this.#options = options;
    this.#clock = clock;
    this.#logger = logs.logger.of('server');
    this.#events = ofServer(logs.uncounted);
    const { configFile, lastReload } = options;
    this.#process = { version: packageVersion(), clock, startedAt: clock.now(), configFile, lastReload };
    this.#handover = new Handover(clock, this.#logger);
    this.#ports = new SharedPorts(this.#handover, this.#logger);
    this.#followers = new WorkerFollowers(new AdministeredLogs(logs), () => this.#workers());
    this.#admin = new ChangingAdmin(next => this.#openAdmin(next));
    this.#trustedProxies.become(trustedBy(config));
  }

  get urls(): readonly string[] {
    return this.#urls;
  }

  get internalUrl(): string | undefined {
    return this.#internalUrl;
  }

  get adminUrl(): string | undefined {
    return this.#admin.url;
  }

  /** Files behind the workers' endpoints. */
  get imports(): readonly string[] {
    return this.#imports;
  }

  get isReady(): boolean {
    return this.#state === 'running' && this.#ready().length > 0;
  }

  /** How long a stop takes by the configuration, in ms. */
  get drainSettings(): { readonly delayMs: number; readonly timeoutMs: number } {
    return drainSettings(this.#config);
  }

  /**
   * Resolves when every worker serves.
   *
   * @throws {HoldfastError} what the first worker that could not start has said. None of them runs then.
   */
  start(): Promise<void> {
    this.#starting = this.#start();
    return this.#starting;
  }

  async #start(): Promise<void> {
    // A parent that is killed leaves them to find out by themselves; one that ends takes them along.
    process.on('exit', this.#killAll);
    try {
      await this.#admin.open(this.#config);
      await Promise.all(Array.from({ length: this.#wanted }, () => this.#spawn().ready.promise));
      this.#state = 'running';
    } catch (error) {
      this.#state = 'stopped';
      this.#killAll();
      await Promise.all([...this.#members].map(({ worker }) => worker.ended));
      this.#ports.close();
      await this.#admin.close();
      process.off('exit', this.#killAll);
      throw error;
    }
  }

  /**
   * Every worker goes on with another configuration, one after the other. Where something of it counts in a new process
   * only (modules that Node does not load again, threads), each worker is replaced by one.
   *
   * @throws {HoldfastError} what the first worker says that cannot. Nothing has changed then.
   */
  async reload(read: () => Promise<Config>): Promise<ReloadReport> {
    // Workers that start may have read the configuration of before.
    await this.#starting?.catch(() => {});
    const next = await read();
    if (this.#state !== 'running') throw new HoldfastError('ERR_SERVER_STATE', 'the server stops, and reloads no more');
    const before = this.#config;
    const { logs } = this.#options;
    const admin = await this.#admin.change(before, next, this.#logger);
    let reload: { report: ReloadReport; outdated: readonly string[] };
    try {
      logs.reconfigure(next.log ?? {});
      reload = await this.#reloadEach();
    } catch (error) {
      logs.reconfigure(before.log ?? {});
      await admin.undo();
      throw error;
    }
    this.#config = next;
    this.#trustedProxies.become(trustedBy(next));
    if (reload.outdated.length > 0) this.#roll(reload.outdated);
    this.#endPause();
    this.#fit();
    this.#sweep();
    admin.settle();
    return reload.report;
  }

  /** As `stop` of a server, for all workers at once. */
  async stop({ drain }: { readonly drain?: Duration } = {}): Promise<void> {
    // A worker that is told to while it starts ends with an error.
    await this.#starting?.catch(() => {});
    if (this.#state === 'stopped') return;
    for (const { worker } of this.#members) worker.stop({ drain });
    if (this.#stopping) {
      this.#killLate(drain);
      return this.#stopping;
    }
    this.#stopping = this.#stop(drain);
    await this.#stopping;
  }

  /** For SIGUSR2. */
  async reopenLogs(): Promise<void> {
    const reopened = this.#workers().map(({ link }) => link.call('administer', ['reopenLogs', []], CLOSING_MS));
    await Promise.allSettled([this.#options.logs.reopen(), ...reopened]);
  }

  get #wanted(): number {
    const { workers = 1 } = this.#config;
    return workers === 'auto' ? availableParallelism() : workers;
  }

  #ready(): Member[] {
    return [...this.#members].filter(({ state }) => state === 'ready');
  }

  /** Those that answer; the ones that are leaving last. */
  #workers(): AskedWorker[] {
    const leaving = [...this.#members].filter(({ state }) => state === 'leaving');
    return [...this.#ready(), ...leaving].map(({ worker: { number, link }, state }) => ({
      ...{ number, link },
      isLeaving: state === 'leaving',
    }));
  }

  #spawn(): Member {
    const number = ++this.#count;
    const worker = new WorkerProcess({
      number,
      methods: one => this.#methodsFor(one),
      onReceipt: (one, id, isTaken) => this.#handover.receive(one, id, isTaken),
    });
    const member: Member = { worker, state: 'starting', readyAt: 0, ready: Promise.withResolvers() };
    member.ready.promise.catch(() => {});
    this.#members.add(member);
    void worker.ended.then(end => this.#onEnd(member, end));
    return member;
  }

  #methodsFor(worker: WorkerProcess) {
    return {
      listen: (key: string, listen: ListenConfig) => this.#ports.listen(worker, key, listen),
      take: (key: string) => this.#ports.take(worker, key),
      changePort: (key: string, listen: ListenConfig) => this.#ports.change(key, listen),
      letGo: (key: string) => this.#ports.letGo(worker, key, this.#memberOf(worker).state === 'leaving'),
      line: (id: number, text: string) => this.#followers.receive(id, text),
      ready: (ready: WorkerReady) => this.#onReady(worker, ready),
      failed: (code: string, message: string) => this.#onFailed(worker, code, message),
    };
  }

  #memberOf(worker: WorkerProcess): Member {
    return [...this.#members].find(member => member.worker === worker)!;
  }

  #onReady(worker: WorkerProcess, ready: WorkerReady): void {
    const member = this.#memberOf(worker);
    if (member.state !== 'starting') return;
    member.state = 'ready';
    member.readyAt = this.#clock.monotonic();
    this.#serve(ready);
    this.#followers.add(worker);
    const { number, pid } = worker;
    this.#events.info({ event: 'worker-ready', worker: number, workerPid: pid }, `worker ${number} serves`);
    member.ready.resolve();
    if (this.#stopping) worker.stop({ drain: '1s' });
  }

  #serve({ urls, internalUrl, imports }: WorkerReady): void {
    this.#urls = urls;
    this.#internalUrl = internalUrl;
    this.#imports = imports;
  }

  #onFailed(worker: WorkerProcess, code: string, message: string): void {
    const member = this.#memberOf(worker);
    member.failure = message;
    member.ready.reject(new HoldfastError(code as HoldfastError['code'], message));
  }

  #onEnd(member: Member, { code, signal, error }: WorkerEnd): void {
    const { worker, state, readyAt, failure } = member;
    this.#ports.lose(worker);
    this.#members.delete(member);
    const { number } = worker;
    const how = signal === null ? `with code ${code}` : `by ${signal}`;
    const what = error
      ? `worker ${number} cannot be started: ${error.message}`
      : `worker ${number} has ended ${how}${state === 'starting' ? ' while it started' : ''}`;
    member.ready.reject(new HoldfastError('ERR_SERVER_FAILED', what));
    if (state === 'leaving' || this.#state !== 'running' || this.#stopping) return;
    const pauseMs = this.#pauseAfter(state === 'ready' && this.#clock.monotonic() - readyAt >= WELL_MS);
    this.#events.error(
      { event: 'worker-ended', worker: number, workerPid: worker.pid, code, signal, pauseMs },
      `${what}${failure === undefined ? '' : `: ${failure}`}; another one starts in ${pauseMs / 1_000} s`,
    );
  }

  /**
   * A worker has ended. Those that end before the next ones start are one failure: otherwise the pause of many workers
   * would be at its longest the first time that all of them end.
   *
   * @returns how long it takes until the next ones start, in ms.
   */
  #pauseAfter(isWell: boolean): number {
    const now = this.#clock.monotonic();
    if (!this.#pause) {
      this.#failures = isWell ? 0 : this.#failures + 1;
      const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.max(0, this.#failures - 1));
      this.#pauseUntil = now + pauseMs;
      this.#pause = this.#clock.setTimeout(() => {
        this.#pause = undefined;
        this.#fit();
      }, pauseMs);
    }
    return Math.max(0, Math.round(this.#pauseUntil - now));
  }

  /** Another configuration may be what they have lacked. */
  #endPause(): void {
    this.#clock.clearTimeout(this.#pause);
    this.#pause = undefined;
    this.#failures = 0;
  }

  /** While none runs, the ports are for those that start next. */
  #sweep(): void {
    if (this.#ready().length > 0) this.#ports.sweep();
  }

  /** Starts and stops workers until there are as many as the configuration says. */
  #fit(): void {
    if (this.#state !== 'running' || this.#stopping || this.#rolling || this.#pause) return;
    const staying = [...this.#members].filter(({ state }) => state !== 'leaving');
    for (let missing = this.#wanted - staying.length; missing > 0; missing--) this.#spawn();
    for (const member of staying.slice(this.#wanted)) this.#retire(member);
  }

  /** Its sockets close with 1012: others go on in its place. */
  #retire(member: Member): void {
    member.state = 'leaving';
    member.worker.stop({ restart: true });
    this.#killAfter([member], drainSettings(this.#config).timeoutMs + CLOSING_MS);
  }

  async #reloadEach(): Promise<{ report: ReloadReport; outdated: readonly string[] }> {
    // One that has read the configuration of before is told as well.
    await Promise.allSettled([...this.#members].map(({ ready }) => ready.promise));
    const outdated = new Set<string>();
    let report: ReloadReport | undefined;
    const members = this.#ready();
    for (const member of members) {
      const { worker } = member;
      try {
        const done = await worker.link.call<WorkerReload>('reload', [], RELOAD_MS);
        for (const what of [...done.outdated, ...done.report.needsRestart]) outdated.add(what);
        // New workers have what these cannot become.
        report = { ...done.report, sockets: done.report.sockets + (report?.sockets ?? 0), needsRestart: [] };
        this.#serve(done);
      } catch (error) {
        if (!this.#members.has(member)) continue;
        if (!report) throw error;
        // Others have it already, and a new one reads it from the beginning.
        this.#logger.warn(
          { event: 'worker-replaced', worker: worker.number, err: error },
          `worker ${worker.number} did not take the new configuration, as others have; a new one takes its place`,
        );
        this.#retire(member);
      }
    }
    // There may have been none, but not one that has served until it was told of this configuration.
    if (!report && members.length > 0)
      throw new HoldfastError(
        'ERR_SERVER_FAILED',
        `each of ${members.length} workers has ended while it took the new configuration; see its lines in the log`,
      );
    return {
      report: report ?? { added: [], changed: [], removed: [], sockets: 0, needsRestart: [] },
      outdated: [...outdated],
    };
  }

  /** Replaces every worker by a new one. Each goes when its successor serves. */
  #roll(files: readonly string[]): void {
    if (this.#rolling) {
      this.#outdated = files;
      return;
    }
    this.#rolling = this.#replaceEach(files).finally(() => {
      this.#rolling = undefined;
      const outdated = this.#outdated;
      this.#outdated = [];
      if (outdated.length > 0 && !this.#stopping) return this.#roll(outdated);
      this.#fit();
      this.#sweep();
    });
  }

  async #replaceEach(files: readonly string[]): Promise<void> {
    const before = this.#ready();
    this.#events.info(
      { event: 'workers-rolled', files, workers: before.length },
      `${before.length} workers are replaced, one after the other: ${files.join(', ')} changed, which counts in new processes only`,
    );
    for (const member of before) {
      if (this.#stopping) return;
      const next = this.#spawn();
      try {
        await next.ready.promise;
      } catch (error) {
        // Its end is in the log. Those of before go on.
        this.#logger.error(
          { event: 'workers-not-rolled', err: error },
          `a new worker cannot start (${messageOf(error)}); the others go on as they are, until the next reload`,
        );
        return;
      }
      if (this.#members.has(member)) this.#retire(member);
    }
  }

  async #stop(drain: Duration | undefined): Promise<void> {
    this.#state = 'draining';
    this.#clock.clearTimeout(this.#pause);
    const { delayMs, timeoutMs } = drainSettings(this.#config);
    const limitMs = drain === undefined ? timeoutMs : parseDuration(drain);
    this.#killAfter([...this.#members], delayMs + limitMs + CLOSING_MS);
    await this.#rolling;
    await Promise.all([...this.#members].map(({ worker }) => worker.ended));
    this.#ports.close();
    this.#state = 'stopped';
    await this.#admin.close();
    this.#logger.flush();
    process.off('exit', this.#killAll);
  }

  #killLate(drain: Duration | undefined): void {
    if (drain !== undefined) this.#killAfter([...this.#members], parseDuration(drain) + CLOSING_MS);
  }

  /** What hangs is ended. */
  #killAfter(members: readonly Member[], ms: number): void {
    const timer = this.#clock.setTimeout(() => {
      for (const member of members) {
        if (!this.#members.has(member)) continue;
        const { number } = member.worker;
        this.#logger.error({ event: 'worker-killed', worker: number }, `worker ${number} did not stop in time`);
        member.worker.kill('SIGKILL');
      }
    }, ms);
    void Promise.all(members.map(({ worker }) => worker.ended)).then(() => this.#clock.clearTimeout(timer));
  }

  readonly #killAll = (): void => {
    for (const { worker } of this.#members) worker.kill('SIGKILL');
  };

  async #openAdmin(config: Config): Promise<Admin | undefined> {
    if (config.admin === false) return undefined;
    const { logs } = this.#options;
    return Admin.open(this.#administered(), {
      config,
      wantsSocket: true,
      dataFolder: dataFolderOf(config),
      clock: this.#clock,
      logger: logs.logger.of('admin'),
      trustedProxies: this.#trustedProxies,
      security: new SecurityEvents(logs.logger.of('policy')),
      // The workers know who is banned, and no one comes to them through here.
      isBanned: () => false,
    });
  }

  #administered(): AdministeredWorkers {
    const { logs, reload, drain } = this.#options;
    return new AdministeredWorkers({
      logs: new AdministeredLogs(logs),
      followers: this.#followers,
      metrics: this.#metrics,
      workers: () => this.#workers(),
      health: () => this.#health(),
      status: () => this.#status(),
      reload,
      drain: ({ over }: DrainRequest) => drain({ over: over as Duration | undefined }),
      reopenLogs: () => this.reopenLogs(),
      hasMetrics: () => keepsMetrics(this.#config),
    });
  }

  #status(): Status {
    return {
      ...processStatus(this.#process),
      ...this.#health(),
      dataFolder: dataFolderOf(this.#config).path,
      listeners: this.#admin.url === undefined ? [] : [{ url: this.#admin.url, serves: 'administrators' }],
      counts: {
        ...{ sockets: 0, handshakes: 0, sessionsInMemory: 0, sessionsInUse: 0 },
        ...{ sessionsCreated: 0, sessionsEnded: 0, bans: 0 },
      },
      workers: [],
    };
  }

  #health(): Pick<Status, 'state' | 'isReady'> {
    return { state: this.#state, isReady: this.isReady };
  }
}

function ofServer(logger: Logger): Pick<Logger, 'info' | 'error'> {
  const part = 'server';
  return {
    info: (fields, message) => logger.info({ ...fields, part }, message),
    error: (fields, message) => logger.error({ ...fields, part }, message),
  };
}

function trustedBy({ trustedProxies }: Config) {
  return createAddressList(trustedProxies ?? []);
}
