import type { Logger } from '../../base/logger.ts';
import { sameValue } from '../../base/same-value.ts';
import type { Config } from '../../config/config.ts';
import type { Admin } from './admin.ts';

/** A change that has been made, and that somebody who has asked for it by the admin API waits for. */
export interface AdminChange {
  /** It is over: where the admin API was before, requests under way have two seconds more. */
  settle(): void;
  /** Goes back to the one before. */
  undo(): Promise<void>;
}

const NO_CHANGE: AdminChange = { settle() {}, undo: async () => {} };

/** The admin API of a server whose configuration changes. */
export class ChangingAdmin {
  readonly #open: (config: Config) => Promise<Admin | undefined>;
  /** They listen no more, and are closed when the change is over. */
  readonly #former: { readonly admin: Admin; readonly why: string | undefined }[] = [];
  readonly #closing = new Set<Promise<void>>();
  #admin: Admin | undefined;
  #opening: Promise<Admin | undefined> | undefined;
  #isClosed = false;

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
    // A server can stop while a change of its admin API is between two places.
    if (this.#isClosed) return;
    this.#opening = this.#open(config);
    this.#admin = await this.#opening;
  }

  /**
   * Opens, closes or changes it, as another configuration says.
   *
   * @throws {HoldfastError} as `open`. It is as before then.
   */
  async change(before: Config, next: Config, logger: Pick<Logger, 'error'>): Promise<AdminChange> {
    if (sameValue(placeOf(before), placeOf(next))) return NO_CHANGE;
    const undo = async () => {
      await this.#letGo(CHANGED);
      try {
        await this.open(before);
      } catch (err) {
        // Why the other configuration was refused matters more.
        const what = 'the admin API cannot be opened again as it was before; reload when its place is free';
        logger.error({ event: 'reload-rest', err }, what);
      }
      this.#settle();
    };
    // It may be at the same place, where two cannot be.
    await this.#letGo(next.admin === false ? CLOSED : CHANGED);
    try {
      await this.open(next);
    } catch (error) {
      await undo();
      throw error;
    }
    return { settle: () => this.#settle(), undo };
  }

  /** Resolves when nothing of it is open any more, nor of those before. A change under way opens nothing after that. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#opening?.catch(() => {});
    await this.#letGo();
    this.#settle();
    await Promise.all(this.#closing);
  }

  async #letGo(why?: string): Promise<void> {
    const admin = this.#admin;
    this.#admin = undefined;
    if (!admin) return;
    this.#former.push({ admin, why });
    await admin.letGo();
  }

  #settle(): void {
    for (const { admin, why } of this.#former.splice(0)) {
      const closing = admin.close(why).finally(() => this.#closing.delete(closing));
      this.#closing.add(closing);
    }
  }
}

/** Why streams end although the server runs on. */
const CHANGED = 'a reload has changed the admin API; the server runs on, and can be followed again';
const CLOSED = 'a reload has closed the admin API; the server runs on';

/** What the admin API is made from. */
function placeOf({ admin, dataFolder, diskReserve }: Config): unknown {
  return { admin, dataFolder, diskReserve };
}
