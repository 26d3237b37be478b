import type { Timer } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { sameValue } from '../base/same-value.ts';
import type { Config, ListenConfig } from '../config/config.ts';
import type { Assembly } from './assembly/build.ts';
import type { Intake } from './listen/intake.ts';
import { Listener } from './listen/listener.ts';
import type { ListenerOptions } from './listen/listener-options.ts';
import { type ListeningPort, Port } from './listen/port.ts';

/** An intake that can go on with another configuration. */
export interface LastingIntake extends Intake {
  use(assembly: Assembly): void;
}

/** What the connections of one listener bring. Where their port goes on with other settings, those judge it. */
class PortIntake implements LastingIntake {
  current: LastingIntake;

  constructor(first: LastingIntake) {
    this.current = first;
  }

  use(assembly: Assembly): void {
    this.current.use(assembly);
  }

  isUpgrade(...args: Parameters<Intake['isUpgrade']>): boolean {
    return this.current.isUpgrade(...args);
  }

  onRequest(...args: Parameters<Intake['onRequest']>): void {
    this.current.onRequest(...args);
  }

  onUpgrade(...args: Parameters<Intake['onUpgrade']>): void {
    this.current.onUpgrade(...args);
  }

  onRefused(...args: Parameters<NonNullable<Intake['onRefused']>>): void {
    this.current.onRefused?.(...args);
  }
}

/** A listener that takes what connects to its port. */
interface Open {
  readonly key: string;
  readonly listener: Listener;
  readonly intake: PortIntake;
  /** What the listener is made from beside its port. */
  readonly from: unknown;
}

/** What listeners need whatever the configuration. */
export type ListenerServices = Omit<ListenerOptions, 'config'>;

/** What listeners of other settings would become. Nothing has changed before `commit`. */
export interface ListenerChange {
  commit(assembly: Assembly): void;
  abandon(): Promise<void>;
}

/** Where the connections of a place come from. `key` is the same for a place as long as it is the same. */
export type PortOf = (listen: ListenConfig, logger: Logger, key: string) => ListeningPort;

const ownPort: PortOf = (listen, logger) => new Port(listen, logger);

/** Settings of the server that connections are held to. */
const SETTINGS = [
  'headerTimeout',
  'maxHeaderSize',
  'keepAliveTimeout',
  'clientTimeout',
  'clientRate',
  'dataFolder',
  'diskReserve',
] as const;
/** Between two looks at whether connections of former settings are left. */
const LOOK_MS = 1_000;

/**
 * The ports of a server. One that stays open has no gap: where its settings change, what connects from then on is held to
 * the new ones, and connections of before go on under theirs; their requests are judged by what counts now.
 */
export class Listeners {
  #open: readonly Open[] = [];
  /** Of former settings, with connections still. */
  #former: readonly Open[] = [];
  #timer: Timer | undefined;
  readonly #intakeOf: (listen: ListenConfig) => LastingIntake;
  readonly #portOf: PortOf;

  /**
   * @param intakeOf Makes what takes the requests of a listener. `use` is called before the first one.
   * @param portOf Default: ports of this process.
   */
  constructor(intakeOf: (listen: ListenConfig) => LastingIntake, portOf: PortOf = ownPort) {
    this.#intakeOf = intakeOf;
    this.#portOf = portOf;
  }

  /** In the order of the configuration. */
  get open(): readonly Listener[] {
    return this.#open.map(({ listener }) => listener);
  }

  /** These, and those that have connections only. */
  get all(): readonly Listener[] {
    return [...this.#open, ...this.#former].map(({ listener }) => listener);
  }

  get intakes(): readonly LastingIntake[] {
    return [...new Set([...this.#open, ...this.#former].map(({ intake }) => intake.current))];
  }

  /**
   * Makes what a configuration asks for, and opens the ports that are not open yet. Nobody is served there before
   * `commit`.
   *
   * @throws {HoldfastError} ERR_SERVER_LISTEN, ERR_CONFIG_INVALID. Nothing has changed then.
   */
  async prepare(places: readonly ListenConfig[], config: Config, services: ListenerServices): Promise<ListenerChange> {
    const opened: ListeningPort[] = [];
    const made: Listener[] = [];
    const next: Open[] = [];
    const abandon = async () => {
      const closing = opened.map(port => port.release());
      // Also those of ports that stay open: they watch files.
      for (const listener of made) listener.end();
      await Promise.all(closing);
    };
    try {
      for (const [index, listen] of places.entries()) {
        const key = keyOf(listen, index);
        const isLogged = (config.log?.access ?? 'off') !== 'off';
        const from = { listen, settings: SETTINGS.map(name => config[name]), isLogged, newcomers: services.newcomers };
        const known = this.#open.find(one => one.key === key);
        const isSame = known !== undefined && sameValue(known.from, from);
        if (isSame) next.push(known);
        else {
          known?.listener.port.checkChange(listen);
          const port = known?.listener.port ?? this.#portOf(listen, services.logger, key);
          const intake = new PortIntake(this.#intakeOf(listen));
          const listener = new Listener(listen, port, intake, { ...services, config });
          made.push(listener);
          next.push({ key, listener, intake, from });
          if (known) continue;
          await port.open();
          opened.push(port);
        }
      }
    } catch (error) {
      await abandon();
      throw error;
    }
    return { commit: assembly => this.#take(next, assembly), abandon };
  }

  /** No connection is looked after any more. */
  stop(clock: Assembly['clock']): void {
    clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #take(next: readonly Open[], assembly: Assembly): void {
    const left = this.#open.filter(one => !next.includes(one));
    const ports = new Set(next.map(({ listener }) => listener.port));
    for (const { listener } of left) {
      if (ports.has(listener.port)) continue;
      // Its port is not to be open any more: what it has is finished.
      void listener.port.release();
      listener.close();
      listener.closeIdle();
    }
    this.#former = [...this.#former, ...left];
    const kept = new Set(this.#open);
    this.#open = next;
    for (const { listener, intake } of this.#former) {
      const successor = next.find(one => one.listener.port === listener.port);
      if (successor) intake.current = successor.intake.current;
    }
    for (const intake of this.intakes) intake.use(assembly);
    for (const one of next) {
      if (kept.has(one)) one.listener.readFiles();
      else {
        one.listener.port.change(one.listener.config);
        one.listener.open();
      }
    }
    if (this.#former.length > 0) this.#look(assembly.clock);
  }

  #look(clock: Assembly['clock']): void {
    clock.clearTimeout(this.#timer);
    this.#former = this.#former.filter(({ listener }) => {
      if (listener.isEmpty) listener.end();
      return !listener.isEmpty;
    });
    this.#timer = this.#former.length === 0 ? undefined : clock.setTimeout(() => this.#look(clock), LOOK_MS);
  }
}

/** A place that is the same is the same port; those of port 0 are told apart by their order. */
function keyOf({ host = '', port, socket, activation, fd }: ListenConfig, index: number): string {
  if (socket !== undefined) return `socket ${socket}`;
  if (activation !== undefined) return `activation ${activation}`;
  if (fd !== undefined) return `fd ${fd}`;
  return port === 0 ? `${host} 0 ${index}` : `${host} ${port}`;
}
