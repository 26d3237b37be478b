import { HoldfastError } from '../base/errors.ts';
import { broughtManager } from '../config/brought-manager.ts';
import type { ApplicationConfig } from '../config/config.ts';
import { type EndAllOptions, SERVER_PARTS, type SessionManager } from '../session/manager.ts';
import type { PeekOptions, SessionPeek } from '../session/peek.ts';
import { checkListening, type SessionEvents } from '../session/reports/events.ts';
import type { SessionMinute } from '../session/reports/history.ts';
import { createInspector, type InspectorOptions } from '../session/reports/inspector.ts';
import type { Inspector } from '../session/reports/inspector-carriers.ts';
import type { SessionStatistics } from '../session/reports/statistics.ts';
import type { StatisticsOfAll } from '../session/reports/statistics-of-all.ts';
import type { Session, SessionEndReason, SessionOwner, SignInOptions } from '../session/session.ts';
import type { SessionInfo } from '../session/session-info.ts';
import type { RunningRequests } from './assembly/running-requests.ts';

/**
 * The sessions that a configuration and the applications mounted in it have, by the prefix: `''` for its own. Without a
 * manager they are made by `start`.
 */
export function* sessionsByMount(
  application: Pick<ApplicationConfig, 'session' | 'routes'>,
): Generator<readonly [mount: string, { readonly manager: SessionManager | undefined }]> {
  if (application.session !== false) yield ['', { manager: broughtManager(application.session) }];
  yield* mountedSessions(application, '');
}

function* mountedSessions({ routes = [] }: ApplicationConfig, prefix: string): ReturnType<typeof sessionsByMount> {
  for (const route of routes) {
    if (route.mount === undefined) continue;
    const mount = prefix + route.mount.replace(/\/$/, '');
    const { session } = route.application ?? {};
    if (session && mount !== '') yield [mount, { manager: broughtManager(session) }];
    yield* mountedSessions(route.application ?? {}, mount);
  }
}

type EventKind = keyof SessionEvents;

interface Listening {
  readonly kind: EventKind;
  readonly listener: (event: never) => void;
  /** Ends it, by the manager that is heard. */
  readonly stops: Map<SessionManager, () => void>;
}

/**
 * The sessions of a server from the moment on at which it is created. Their manager is there when the store is open:
 * then everything is asked of it.
 */
export class LateSessions {
  #manager: SessionManager | undefined;
  /** While the server starts. */
  #opening: PromiseWithResolvers<SessionManager> | undefined;
  /** Who listens: to another manager, too, when that takes the place of this one. */
  readonly #listening = new Set<Listening>();
  readonly #running: () => RunningRequests | undefined;

  /** @param running Of the configuration in force, whose stores stay open for what runs. */
  constructor(running: () => RunningRequests | undefined) {
    this.#running = running;
  }

  /** The server starts: what is asked waits. */
  begin(): void {
    this.#opening = Promise.withResolvers();
    this.#opening.promise.catch(() => {}); // start() says why it failed
  }

  opened(manager: SessionManager): void {
    this.#manager = manager;
    for (const listening of this.#listening) listen(listening, manager);
    this.#opening?.resolve(manager);
    // Or it would hold the first one for good, and by that its store.
    this.#opening = undefined;
  }

  /** Managers of before have nothing more to say. */
  forgetOthers(): void {
    for (const { stops } of this.#listening)
      for (const [manager, stop] of stops) {
        if (manager === this.#manager) continue;
        stop();
        stops.delete(manager);
      }
  }

  /** The server could not be started, or has these sessions no more. */
  giveUp(): void {
    this.#opening?.reject(notRunning());
    this.#opening = undefined;
    this.#manager = undefined;
  }

  get(carrier: object): Promise<Session | undefined> {
    return this.#manager?.get(carrier) ?? this.#ready().then(manager => manager.get(carrier));
  }

  open(carrier: object): Promise<Session> {
    return this.#manager?.open(carrier) ?? this.#ready().then(manager => manager.open(carrier));
  }

  signIn(carrier: object, owner: SessionOwner, options?: SignInOptions): Promise<Session> {
    return this.#use(manager => manager.signIn(carrier, owner, options));
  }

  encodeUrl(carrier: object, url: string): string {
    return this.#now().encodeUrl(carrier, url);
  }

  access<T>(sid: string, work: (session: Session) => T | Promise<T>): Promise<T> {
    return this.#use(manager => manager.access(sid, work));
  }

  peek(sid: string, options?: PeekOptions): Promise<SessionPeek | undefined> {
    return this.#use(manager => manager.peek(sid, options));
  }

  end(sid: string, reason: SessionEndReason): Promise<boolean> {
    return this.#use(manager => manager.end(sid, reason));
  }

  ofUser(name: string): Promise<SessionInfo[]> {
    return this.#use(manager => manager.ofUser(name));
  }

  endAllOf(name: string, options?: EndAllOptions): Promise<number> {
    return this.#use(manager => manager.endAllOf(name, options));
  }

  async *list(): AsyncIterable<SessionInfo> {
    await this.#ready();
    const [manager, end] = this.#begin();
    try {
      yield* manager.list();
    } finally {
      end();
    }
  }

  info(sid: string): Promise<SessionInfo | undefined> {
    return this.#use(manager => manager.info(sid));
  }

  count(): Promise<number> {
    return this.#use(manager => manager.count());
  }

  statistics(): SessionStatistics {
    return this.#now().statistics();
  }

  history(): SessionMinute[] {
    return this.#now().history();
  }

  statisticsOfAll(): Promise<StatisticsOfAll> {
    return this.#use(manager => manager.statisticsOfAll());
  }

  inspector(options?: InspectorOptions): Inspector {
    return createInspector(this, () => this.#manager?.[SERVER_PARTS].logger, options);
  }

  on<K extends EventKind>(kind: K, listener: (event: SessionEvents[K]) => void): () => void {
    checkListening(kind, listener);
    const listening: Listening = { kind, listener, stops: new Map() };
    this.#listening.add(listening);
    if (this.#manager) listen(listening, this.#manager);
    return () => {
      this.#listening.delete(listening);
      for (const stop of listening.stops.values()) stop();
    };
  }

  /** A reload that gives the sessions another store closes the one of before when this is over. */
  async #use<T>(work: (manager: SessionManager) => T | Promise<T>): Promise<T> {
    await this.#ready();
    const [manager, end] = this.#begin();
    try {
      return await work(manager);
    } finally {
      end();
    }
  }

  /** Both at once: a reload changes them together. */
  #begin(): readonly [manager: SessionManager, end: () => void] {
    const manager = this.#now();
    const running = this.#running();
    running?.begin();
    return [manager, () => running?.end()];
  }

  async #ready(): Promise<SessionManager> {
    if (this.#manager) return this.#manager;
    if (this.#opening) return this.#opening.promise;
    throw notRunning();
  }

  #now(): SessionManager {
    if (this.#manager) return this.#manager;
    throw notRunning();
  }
}

function listen({ kind, listener, stops }: Listening, manager: SessionManager): void {
  // It goes on over reloads.
  if (stops.has(manager)) return;
  stops.set(manager, manager.on(kind, listener as (event: SessionEvents[EventKind]) => void));
}

function notRunning(): HoldfastError {
  const message = 'the server has not opened its sessions; await start() or attach() first';
  return new HoldfastError('ERR_SERVER_STATE', message);
}
