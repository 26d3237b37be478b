import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isHoldfastError } from '../../src/base/errors.ts';
import { SessionManager } from '../../src/session/manager.ts';
import type { SessionBinding } from '../../src/session/request/binding.ts';
import type { Session } from '../../src/session/session.ts';
import { KEY } from './fixture.ts';
import { runModel } from './model.ts';
import { type Backend, connect, PLACES, type Place, skipNote } from './race-stores.ts';

const STEPS = 400;
const SESSIONS = 4;
const OPEN_REQUESTS = 6;
const NAMES = ['a', 'b', 'c', 'd', 'e', 'f'];
/** Set it to what a failure has named, to see it again. */
const SEED = Number(process.env.HOLDFAST_SEED ?? Math.floor(Math.random() * 2 ** 32));

/** What a session is: a map that is there, or not any more. Nothing of caches, versions or processes. */
interface ModelSession {
  readonly sid: string;
  isAlive: boolean;
  readonly attributes: Map<string, number>;
  /** Which secret it has, counted. */
  secret: number;
}

/** What a browser knows. */
interface Client {
  readonly session: ModelSession;
  cookie: string;
  secret: number;
}

/** A request on its way: it sees what was committed when it began, and what it has changed itself. */
interface OpenRequest {
  readonly client: Client;
  readonly binding: SessionBinding;
  readonly session: Session<Record<string, number>>;
  readonly seen: Map<string, number>;
  readonly changed: Set<string>;
  /** The secret that the client is told with the response. */
  tells: number | undefined;
  /** The secret that it may replace. */
  secret: number;
}

/** Mulberry32: numbers from 0 to 1 that follow from the seed. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Run {
  readonly #managers: readonly SessionManager[];
  readonly #random: () => number;
  readonly #clients: Client[] = [];
  readonly #requests: OpenRequest[] = [];
  readonly #all: ModelSession[] = [];
  /** What was done, for whoever has to understand a failure. */
  readonly log: string[] = [];
  #value = 0;

  constructor(managers: readonly SessionManager[], random: () => number) {
    this.#managers = managers;
    this.#random = random;
  }

  /** How many sessions there are. */
  get alive(): number {
    return this.#all.filter(({ isAlive }) => isAlive).length;
  }

  async step(): Promise<void> {
    if (this.#clients.length < SESSIONS) return this.#create();
    if (this.#requests.length === 0) return this.#start();
    const request = this.#pick(this.#requests);
    const dice = this.#random();
    if (dice < 0.2 && this.#requests.length < OPEN_REQUESTS) await this.#start();
    else if (dice < 0.4) this.#set(request);
    else if (dice < 0.45) this.#delete(request);
    else if (dice < 0.55) this.#read(request);
    else if (dice < 0.65) await this.#update(request);
    else if (dice < 0.75) await this.#commitTogether();
    else if (dice < 0.93) await this.#respond(request);
    else if (dice < 0.97) await this.#renew(request);
    else await this.#end(request);
  }

  /** Both processes know what the model knows. */
  async check(): Promise<void> {
    for (const request of [...this.#requests]) await this.#respond(request);
    for (const client of this.#clients) {
      for (const manager of this.#managers) {
        const binding = bind(manager, client.cookie);
        const found = await binding.get();
        expect(found && attributesOf(found)).toEqual(this.#expected(client));
        binding.release();
      }
    }
  }

  #expected({ session, secret }: Client): Record<string, number> | undefined {
    return session.isAlive && session.secret === secret ? Object.fromEntries(session.attributes) : undefined;
  }

  async #create(): Promise<void> {
    const binding = bind(this.#pick(this.#managers), '');
    const { id } = await binding.open();
    await binding.commit();
    const session: ModelSession = { sid: id, isAlive: true, attributes: new Map(), secret: 0 };
    this.log.push(`create ${this.#all.length}`);
    this.#all.push(session);
    this.#clients.push({ session, cookie: cookieOf(binding)!, secret: 0 });
    binding.release();
  }

  async #start(): Promise<void> {
    const client = this.#pick(this.#clients);
    const binding = bind(this.#pick(this.#managers), client.cookie);
    const session = (await binding.get()) as Session<Record<string, number>> | undefined;
    this.log.push(`start a request of ${this.#name(client)}: ${session ? 'has its session' : 'has none'}`);
    expect(session && attributesOf(session)).toEqual(this.#expected(client));
    if (session) {
      const seen = new Map(client.session.attributes);
      const { secret } = client;
      this.#requests.push({ client, binding, session, seen, changed: new Set(), tells: undefined, secret });
    } else {
      binding.release();
      // A client whose session is over comes back as a new one; one that is only behind waits for its cookie.
      if (!client.session.isAlive) this.#clients.splice(this.#clients.indexOf(client), 1);
    }
  }

  #set(request: OpenRequest): void {
    const name = this.#pick(NAMES);
    const value = ++this.#value;
    this.log.push(`${this.#name(request.client)} sets ${name} to ${value}`);
    request.session.set(name, value);
    request.seen.set(name, value);
    request.changed.add(name);
  }

  #delete(request: OpenRequest): void {
    const name = this.#pick(NAMES);
    this.log.push(`${this.#name(request.client)} deletes ${name}`);
    request.session.delete(name);
    if (request.seen.delete(name)) request.changed.add(name);
  }

  #read(request: OpenRequest): void {
    expect(attributesOf(request.session)).toEqual(Object.fromEntries(request.seen));
  }

  async #update(request: OpenRequest): Promise<void> {
    const name = this.#pick(NAMES);
    this.log.push(`${this.#name(request.client)} adds one to ${name}`);
    const { session } = request.client;
    const answer = request.session.update(name, (current = 0) => current + 1);
    if (!session.isAlive) return this.#expectEnded(request, answer);
    if (request.changed.has(name)) this.#apply(request);
    const next = (session.attributes.get(name) ?? 0) + 1;
    expect(await answer).toBe(next);
    session.attributes.set(name, next);
    request.seen.set(name, next);
  }

  /** Several at the same moment, of which no two change the same attribute: then their order does not matter. */
  async #commitTogether(): Promise<void> {
    const together: OpenRequest[] = [];
    const taken = new Set<string>();
    for (const request of this.#requests) {
      const names = Array.from(request.changed, name => `${request.client.session.sid} ${name}`);
      if (names.some(name => taken.has(name))) continue;
      for (const name of names) taken.add(name);
      together.push(request);
    }
    this.log.push(`commit together: ${together.map(({ client }) => this.#name(client)).join(', ')}`);
    await Promise.all(together.map(request => this.#commit(request)));
  }

  async #commit(request: OpenRequest): Promise<void> {
    const { session } = request.client;
    const commit = request.binding.commit();
    if (request.changed.size > 0 && !session.isAlive) return this.#expectEnded(request, commit);
    await commit;
    this.#apply(request);
  }

  #apply({ client, seen, changed }: OpenRequest): void {
    for (const name of changed) {
      const value = seen.get(name);
      if (value === undefined) client.session.attributes.delete(name);
      else client.session.attributes.set(name, value);
    }
    changed.clear();
  }

  async #respond(request: OpenRequest): Promise<void> {
    this.log.push(`answer to ${this.#name(request.client)}`);
    await this.#commit(request);
    if (!this.#requests.includes(request)) return;
    const cookie = cookieOf(request.binding);
    expect(cookie !== undefined).toBe(request.tells !== undefined);
    if (cookie !== undefined && request.tells !== undefined && request.tells > request.client.secret) {
      request.client.cookie = cookie;
      request.client.secret = request.tells;
    }
    this.#close(request);
  }

  async #renew(request: OpenRequest): Promise<void> {
    const { session } = request.client;
    this.log.push(`${this.#name(request.client)} renews secret ${request.secret} of ${session.secret}`);
    const renewal = request.session.renew();
    if (!session.isAlive) return this.#expectEnded(request, renewal);
    // And it sees nothing of what the session has become.
    if (request.secret !== session.secret) return expectCode(renewal, 'ERR_SESSION_SUPERSEDED');
    await renewal;
    this.#apply(request);
    request.tells = ++session.secret;
    request.secret = session.secret;
  }

  /** From inside by its client, or from outside, by the other process perhaps. */
  async #end(request: OpenRequest): Promise<void> {
    const { session } = request.client;
    const isInside = this.#random() < 0.5;
    this.log.push(`${this.#name(request.client)} ends, from ${isInside ? 'inside' : 'outside'}`);
    const wasAlive = session.isAlive;
    session.isAlive = false;
    if (isInside) {
      await request.session.invalidate();
      this.#close(request);
    } else expect(await this.#pick(this.#managers).end(session.sid, 'admin')).toBe(wasAlive);
  }

  /** What it wanted to write is refused, and from then on it knows. */
  async #expectEnded(request: OpenRequest, answer: Promise<unknown>): Promise<void> {
    await expectCode(answer, 'ERR_SESSION_ENDED');
    expect(() => request.session.get('a')).toThrow();
    this.#close(request);
  }

  #close(request: OpenRequest): void {
    request.binding.release();
    this.#requests.splice(this.#requests.indexOf(request), 1);
  }

  #name({ session }: Client): string {
    return `session ${this.#all.indexOf(session)}`;
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)]!;
  }
}

function bind(manager: SessionManager, cookieHeader: string): SessionBinding {
  return manager.bind({ cookieHeader, isSecure: false, isDocumentNavigation: false });
}

function cookieOf(binding: SessionBinding): string | undefined {
  return binding.responseHeaders()[0]?.value.split(';', 1)[0];
}

function attributesOf(session: Session): Record<string, unknown> {
  const open = session as Session<Record<string, unknown>>;
  return Object.fromEntries(open.keys().map(name => [name, open.get(name)]));
}

async function expectCode(answer: Promise<unknown>, code: string): Promise<void> {
  const error = await answer.then(
    () => undefined,
    reason => reason,
  );
  expect(isHoldfastError(error) ? error.code : error).toBe(code);
}

describe.each(PLACES.map(place => ({ ...place, title: `${place.name}${skipNote(place)}` })))(
  'on $title',
  ({ name, missing, open }) => {
    let place: Place;
    const managers: SessionManager[] = [];
    beforeAll(async () => {
      if (missing) return;
      place = await open();
      // Two connections, as of two processes; in memory there is one for all.
      const first = await connect(place.address);
      const second: Backend = name === 'memory' ? first : await connect(place.address);
      for (const backend of [first, second]) {
        // The smallest cache: what is left out of it must be found again.
        managers.push(new SessionManager({ ...backend, keys: [KEY], cacheSessions: 2, cookie: { name: 'sid' } }));
      }
      for (const manager of managers) await manager.start();
    });
    afterAll(async () => {
      for (const manager of managers) await manager.close();
      await place?.close();
    });

    test.skipIf(missing)(`${STEPS} random steps with users do what the model of owners says`, async () => {
      const counts = await runModel(() => managers, SEED, STEPS);
      expect(Object.keys(counts).length).toBeGreaterThan(4);
    });

    test.skipIf(missing)(`${STEPS} random steps of requests in two processes do what a plain map would`, async () => {
      const before = await managers[0]!.count();
      const run = new Run(managers, randomOf(SEED));
      try {
        for (let step = 0; step < STEPS; step++) await run.step();
        await run.check();
        expect(await managers[0]!.count()).toBe(before + run.alive);
      } catch (error) {
        const last = run.log.slice(-40).join('\n  ');
        throw new Error(`HOLDFAST_SEED=${SEED} shows it again; the last steps were:\n  ${last}`, { cause: error });
      }
    });
  },
);
