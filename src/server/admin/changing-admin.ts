import type { Logger } from '../../base/logger.ts';
import { sameValue } from '../../base/same-value.ts';
import type { Config } from '../../config/config.ts';
import type { Admin } from './admin.ts';

/** The admin API of a server whose configuration changes. */
export class ChangingAdmin {
  readonly #open: (config: Config) => Promise<Admin | undefined>;
  readonly #closing = new Set<Promise<void>>();
  #admin: Admin | undefined;

  /** @param open Opens that of a configuration; undefined: it has none. */
  constructor(open: (config: Config) => Promise<Admin | undefined>) {
    this.#open = open;
  }

  /** Of its port. */
  get url(): string | undefined {
    return this.#admin?.url;
  }

  /** Of its socket. */
  get path(): string | undefined {
    return this.#admin?.path;
  }

  /** @throws {HoldfastError} ERR_SERVER_LISTEN, ERR_CONFIG_INVALID. Nothing is open then. */
  async open(config: Config): Promise<void> {
    this.#admin = await this.#open(config);
  }

  /**
   * Opens, closes or changes it, as another configuration says.
   *
   * @returns goes back to the one before.
   * @throws {HoldfastError} as `open`. It is as before then.
   */
  async change(before: Config, next: Config, logger: Pick<Logger, 'error'>): Promise<() => Promise<void>> {
    if (sameValue(placeOf(before), placeOf(next))) return async () => {};
    const goBack = async () => {
      await this.#letGo(CHANGED);
      try {
        await this.open(before);
      } catch (err) {
        // Why the other configuration was refused matters more.
        const what = 'the admin API cannot be opened again as it was before; reload when its place is free';
        logger.error({ event: 'reload-rest', err }, what);
      }
    };
    // It may be at the same place, where two cannot be.
    await this.#letGo(next.admin === false ? CLOSED : CHANGED);
    try {
      await this.open(next);
    } catch (error) {
      await goBack();
      throw error;
    }
    return goBack;
  }

  /** Resolves when nothing of it is open any more, nor of those before. */
  async close(): Promise<void> {
    await this.#letGo();
    await Promise.all(this.#closing);
  }

  /** Who has asked for the change by it gets an answer. */
  async #letGo(why?: string): Promise<void> {
    const admin = this.#admin;
    this.#admin = undefined;
    if (!admin) return;
    await admin.letGo(why);
    const closing = admin.close().finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }
}

/** Why streams end although the server runs on. */
const CHANGED = 'a reload has changed the admin API; the server runs on, and can be followed again';
const CLOSED = 'a reload has closed the admin API; the server runs on';

/** What the admin API is made from. */
function placeOf({ admin, dataFolder, diskReserve }: Config): unknown {
  return { admin, dataFolder, diskReserve };
}
