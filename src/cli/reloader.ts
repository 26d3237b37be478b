import type { ReloadResult, Status } from '../admin/shapes.ts';
import { messageOf } from '../base/message-of.ts';
import { ConfigError, type ConfigProblem, formatProblem } from '../config/config-error.ts';
import { type ReadConfig, readConfig } from '../config/load.ts';
import { modules } from '../config/modules.ts';
import type { LogControl } from '../server/log/log-control.ts';
import { examine } from './examine.ts';
import { isSaidByServer } from './said-doubts.ts';
import type { ServiceManager } from './service-manager/service-manager.ts';
import type { RunningServer, Serving } from './serving.ts';

/** From so many on it is said how many versions of modules are in memory. */
const MANY_VERSIONS = 20;

export interface ReloaderOptions {
  readonly file: string;
  readonly server: Pick<RunningServer, 'reload' | 'urls'>;
  readonly explain: Serving['explain'];
  readonly logs: LogControl;
  readonly manager: Pick<ServiceManager, 'reloading' | 'reloaded'>;
  /** Hears of the files of each configuration that counts. */
  onRead(read: ReadConfig): void;
}

/** Reads the configuration file of a server again, and lets the server go on with it. */
export class Reloader {
  readonly #options: ReloaderOptions;
  #running: Promise<ReloadResult> | undefined;
  #next: Promise<ReloadResult> | undefined;
  #last: Status['lastReload'];
  /** Of modules that were said to need a restart. */
  #said = '';

  constructor(options: ReloaderOptions) {
    this.#options = options;
  }

  /** What became of the last one; undefined: there was none. */
  get last(): Status['lastReload'] {
    return this.#last;
  }

  /**
   * What comes while one is under way is one more, that begins when that is over. Never rejects: what was wrong is in the
   * result, and in the log.
   *
   * @param why For the log.
   */
  reload(why: string): Promise<ReloadResult> {
    if (!this.#running) return this.#begin(why);
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      return this.#begin(why);
    });
    return this.#next;
  }

  #begin(why: string): Promise<ReloadResult> {
    const running = this.#reload(why).then(result => {
      this.#last = { ...result, at: Date.now() };
      if (this.#running === running) this.#running = undefined;
      return result;
    });
    this.#running = running;
    return running;
  }

  async #reload(why: string): Promise<ReloadResult> {
    const { file, server, explain, logs, manager, onRead } = this.#options;
    manager.reloading();
    let refused = '';
    let read: ReadConfig | undefined;
    try {
      // Within it, so that what cannot be read counts as refused.
      const report = await server.reload(async () => {
        read = await readConfig(file);
        const { errors, warnings } = await examine(read);
        if (errors.length > 0) throw new ConfigError(errors);
        sayDoubts(warnings, logs);
        return read.config;
      });
      onRead(read!);
      const { added, changed, removed, sockets, needsRestart } = report;
      logs.uncounted.info(
        { event: 'reloaded', why, added, changed, removed, sockets, part: 'cli' },
        `reloaded (${why})`,
      );
      await this.#sayModules(read!);
      const named = (what: string, names: readonly string[]) => names.map(name => `route ${what}: ${name}`);
      const changes = [...named('added', added), ...named('changed', changed), ...named('removed', removed)];
      return { ok: true, changed: changes, ...(needsRestart.length > 0 && { needsRestart: [...needsRestart] }) };
    } catch (error) {
      const errors = this.#refuse(why, read ? await explain(error, read) : error);
      refused = `; the last reload was refused: ${errors[0]}`;
      return { ok: false, errors };
    } finally {
      manager.reloaded(`${listening(server)}${refused}`);
    }
  }

  #refuse(why: string, error: unknown): string[] {
    const { uncounted } = this.#options.logs;
    const problems: readonly ConfigProblem[] =
      error instanceof ConfigError ? error.problems : [{ path: '', message: messageOf(error) }];
    for (const { code, path, file, line, column, message } of problems)
      uncounted.error(
        { event: 'reload-refused', why, code, path, file, line, column, part: 'cli' },
        `the configuration is not taken, the one before goes on: ${formatProblem({ path, message, ...(file !== undefined && { file }), ...(line !== undefined && { line }), ...(column !== undefined && { column }) })}`,
      );
    return problems.map(formatProblem);
  }

  /** Node loads a module once, and what it imports with it. */
  async #sayModules({ files }: ReadConfig): Promise<void> {
    const { uncounted } = this.#options.logs;
    const outdated = await modules.outdated([...files.keys(), ...modules.loaded]);
    const said = outdated.join('\n');
    if (outdated.length > 0 && said !== this.#said)
      uncounted.warn(
        { event: 'reload-needs-restart', files: outdated, part: 'cli' },
        `${outdated.length} ${outdated.length === 1 ? 'module that is imported has' : 'modules that are imported have'} changed, and Node loads a module once: restart the server for ${outdated.join(', ')}`,
      );
    this.#said = said;
    if (modules.replaced >= MANY_VERSIONS && modules.replaced % MANY_VERSIONS === 0)
      uncounted.warn(
        { event: 'modules-kept', versions: modules.replaced, part: 'cli' },
        `${modules.replaced} versions of modules were replaced and stay in memory, as Node lets go of none; a restart lets go of them`,
      );
  }
}

/** For `systemctl status`. */
export function listening({ urls }: Pick<RunningServer, 'urls'>): string {
  return `listening on ${urls.join(', ')}`;
}

/** What is legal but doubtful in a configuration, but for what the server says itself. */
export function sayDoubts(warnings: readonly ConfigProblem[], { uncounted }: LogControl): void {
  for (const warning of warnings.filter(one => !isSaidByServer(one))) {
    const { code, path, file, line, column } = warning;
    uncounted.warn({ event: 'config-doubtful', code, path, file, line, column, part: 'cli' }, formatProblem(warning));
  }
}
