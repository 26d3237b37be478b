import { randomBytes, randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { type Served, type Wire, wires } from '../guard/served.ts';
import { USERS } from './busy-server.ts';
import { type Answered, type Asked, type Leave, type Line, Refused, Visitor } from './visitor.ts';

/** What the crowd has done so far, by name. */
export type Counts = Record<'connections' | 'messages' | 'requests' | 'sessions' | 'refused' | 'broken off', number>;

const NAVIGATION = { accept: 'text/html', 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' };
const LEAVES: readonly Leave[] = ['close frame', 'close frame', 'end', 'reset'];
/** A WebSocket may end so by what the operator does, or by its session or its silence. */
const ENDS = new Set([1000, 1001, 1005, 1006, 1008, 1012, 1013]);

/** Clients of every kind, who come and go until they are told to leave. */
export class Crowd {
  readonly counts: Counts = { connections: 0, messages: 0, requests: 0, sessions: 0, refused: 0, 'broken off': 0 };
  /** What no client should have seen. */
  readonly faults = new Map<string, number>();
  readonly #served: Served;
  readonly #loops: Promise<void>[] = [];
  #isLeaving = false;
  #number = 0;

  constructor(served: Served) {
    this.#served = served;
  }

  /** @param each How many of each kind come at once. */
  come(each: number): void {
    this.#isLeaving = false;
    const kinds: Record<string, (visitor: Visitor) => Promise<void>> = {
      talk: visitor => this.#talk(visitor, '/echo'),
      relay: visitor => this.#talk(visitor, Math.random() < 0.5 ? '/relay' : '/moving'),
      rooms: visitor => this.#rooms(visitor),
      slow: visitor => this.#slow(visitor),
      silent: visitor => this.#silent(visitor),
      user: visitor => this.#user(visitor),
      'user of the backend': visitor => this.#userOfBackend(visitor),
      shopper: visitor => this.#shopper(visitor),
      refused: visitor => this.#refused(visitor),
      hostile: visitor => this.#hostile(visitor),
      events: visitor => this.#events(visitor),
      bodies: visitor => this.#bodies(visitor),
    };
    for (const [name, visit] of Object.entries(kinds))
      for (let i = 0; i < each; i++) this.#loops.push(this.#repeat(name, visit));
  }

  /** Resolves when all have gone. */
  async leave(): Promise<void> {
    this.#isLeaving = true;
    await Promise.all(this.#loops.splice(0));
  }

  async #repeat(name: string, visit: (visitor: Visitor) => Promise<void>): Promise<void> {
    while (!this.#isLeaving) {
      const number = this.#number++;
      const wire: Wire = wires[number % wires.length]!;
      // Of networks that belong to nobody (RFC 2544): an address is a client of its own.
      using visitor = new Visitor(this.#served, wire, `198.18.${(number >> 8) & 255}.${number & 255}`);
      this.counts.connections++;
      try {
        await withDeadline(visit(visitor));
      } catch (error) {
        this.#fault(`${name} over ${wire}: ${(error as Error).message}`);
      }
      await pause(randomInt(50, 150));
    }
  }

  #fault(what: string): void {
    this.faults.set(what, (this.faults.get(what) ?? 0) + 1);
  }

  async #ask(visitor: Visitor, path: string, asked: Asked, ...statuses: number[]): Promise<Answered> {
    this.counts.requests++;
    const answer = await visitor.ask(path, asked);
    if (!statuses.includes(answer.status))
      this.#fault(`${asked.method ?? 'GET'} ${path.split('?')[0]} was answered with ${answer.status}`);
    return answer;
  }

  /** @returns undefined when it was refused with one of the statuses. */
  async #open(
    visitor: Visitor,
    path: string,
    headers: Record<string, string>,
    ...statuses: number[]
  ): Promise<Line | undefined> {
    this.counts.connections++;
    try {
      return await visitor.open(path, headers);
    } catch (error) {
      if (!(error instanceof Refused && statuses.includes(error.status))) throw error;
      this.counts.refused++;
    }
  }

  /** @returns false when the WebSocket has ended meanwhile. */
  async #echo(line: Line, message: string | Buffer): Promise<boolean> {
    line.send(message);
    const answer = await line.receive();
    if (answer === undefined) {
      const code = await line.closed;
      if (!ENDS.has(code)) this.#fault(`a WebSocket closed with ${code}`);
      return false;
    }
    this.counts.messages += 2;
    if (String(answer) !== String(message)) this.#fault('an echo was something else');
    return true;
  }

  #leave(line: Line): void {
    const how = LEAVES[randomInt(LEAVES.length)]!;
    if (how !== 'close frame') this.counts['broken off']++;
    line.leave(how);
  }

  async #talk(visitor: Visitor, path: string): Promise<void> {
    const line = (await this.#open(visitor, path, {}))!;
    const size = [10, 1_000, 60_000][randomInt(3)]!;
    for (let i = randomInt(1, 40); i > 0 && !this.#isLeaving; i--) {
      const bytes = randomBytes(randomInt(1, size));
      if (!(await this.#echo(line, i % 2 === 0 ? bytes : bytes.toString('base64url').slice(0, size)))) return;
      if (i % 8 === 0) await pause(randomInt(100));
    }
    this.#leave(line);
  }

  async #rooms(visitor: Visitor): Promise<void> {
    const path = ['/room/', '/news/'][randomInt(2)]! + randomInt(1_000);
    const first = (await this.#open(visitor, path, {}))!;
    const others: Line[] = [];
    for (let i = randomInt(1, 5); i > 0; i--) others.push((await this.#open(visitor, path, {}))!);
    for (let i = randomInt(1, 20); i > 0; i--) {
      first.send(`message ${i}`);
      const heard = await Promise.race([Promise.all(others.map(line => line.receive())), pause(1_000)]);
      if (heard?.some(message => message === undefined)) break;
      this.counts.messages += others.length + 1;
    }
    for (const line of [first, ...others]) this.#leave(line);
  }

  /** Reads nothing of what it is sent. */
  async #slow(visitor: Visitor): Promise<void> {
    const line = (await this.#open(visitor, `/flood/${['wait', 'close'][randomInt(2)]}`, {}))!;
    line.pause();
    await pause(randomInt(500, 2_000));
    this.#leave(line);
    this.counts['broken off']++;
  }

  /** Answers no ping, so that the server ends it. */
  async #silent(visitor: Visitor): Promise<void> {
    const line = (await this.#open(visitor, Math.random() < 0.5 ? '/echo' : '/relay', {}))!;
    await this.#echo(line, 'hello');
    line.pause();
    await this.#patience(6_000);
    this.counts['broken off']++;
  }

  /** Signs in on our page, and out again, or stays away. */
  async #user(visitor: Visitor): Promise<void> {
    const name = `user${randomInt(USERS)}`;
    const headers = { ...NAVIGATION, origin: visitor.origin };
    await this.#ask(visitor, '/private/page', { headers: NAVIGATION }, 302, 303);
    const isWrong = randomInt(4) === 0;
    const form = new URLSearchParams({ j_username: name, j_password: isWrong ? 'wrong' : name }).toString();
    const login: Asked = {
      method: 'POST',
      body: form,
      headers: { ...headers, 'content-type': 'application/x-www-form-urlencoded' },
    };
    const { status } = await this.#ask(visitor, '/j_security_check', login, 302, 303);
    if (isWrong || status >= 400) return void this.counts.refused++;
    this.counts.sessions++;
    // The operator may have changed where sessions are looked for.
    await this.#ask(visitor, '/private/page', { headers: NAVIGATION }, 200, 302, 303);
    const line = await this.#open(visitor, '/private/socket', { origin: visitor.origin }, 401);
    const member = await this.#open(visitor, '/member', { origin: visitor.origin }, 403);
    if (!line || !member) return;
    for (let i = 0; i < 5; i++) {
      if (!(await this.#echo(line, `of ${name}`))) return;
      member.send('count');
      if ((await member.receive()) === undefined) return;
      this.counts.messages += 2;
    }
    if (Math.random() < 0.5) return this.#leave(line);
    await this.#ask(
      visitor,
      '/logout',
      { method: 'POST', body: '', headers: { origin: visitor.origin, 'sec-fetch-site': 'same-origin' } },
      200,
      204,
      302,
      303,
    );
    const code = await Promise.race([line.closed, this.#patience(5_000)]);
    if (code !== undefined && code !== 1008 && code !== 1012)
      this.#fault(`a WebSocket closed with ${code} when its user signed out`);
  }

  /** The backend signs it in. */
  async #userOfBackend(visitor: Visitor): Promise<void> {
    await this.#ask(visitor, '/begin/page', { headers: NAVIGATION }, 200);
    this.counts.sessions++;
    await this.#ask(visitor, `/app/sign-in?user=user${randomInt(USERS)}`, { headers: NAVIGATION }, 200);
    const line = await this.#open(visitor, '/app/socket', { origin: visitor.origin });
    for (let i = 0; i < 5; i++) if (!(await this.#echo(line!, 'hello'))) return;
    if (Math.random() < 0.5) return this.#leave(line!);
    await this.#ask(visitor, '/app/sign-out', { headers: NAVIGATION }, 200);
    await Promise.race([line!.closed, this.#patience(5_000)]);
  }

  /** In sessions of mounted applications: in memory, and in Redis. */
  async #shopper(visitor: Visitor): Promise<void> {
    const mount = ['/shop', '/cart'][randomInt(2)]!;
    await this.#ask(visitor, `${mount}/page`, { headers: NAVIGATION }, 200);
    this.counts.sessions++;
    const line = await this.#open(visitor, `${mount}/member`, { origin: visitor.origin }, 403);
    if (!line) return;
    for (let i = 0; i < 10; i++) {
      line.send(`${i}`);
      if ((await line.receive()) === undefined) return;
      this.counts.messages += 2;
    }
    if (Math.random() < 0.3) {
      // Its session ends under it, unless it says something.
      await Promise.race([line.closed, this.#patience(10_000)]);
    } else this.#leave(line);
  }

  async #refused(visitor: Visitor): Promise<void> {
    await this.#open(visitor, '/echo', { origin: 'https://elsewhere.example' }, 403).then(
      line => line && this.#fault('a foreign origin came in'),
    );
    await this.#open(visitor, '/nowhere', {}, 404);
    await this.#open(visitor, '/member', { origin: visitor.origin }, 403);
    const lines: (Line | undefined)[] = [];
    for (let i = 0; i < 4; i++) lines.push(await this.#open(visitor, '/few', {}, 503));
    for (const line of lines) line?.leave('close frame');
    await this.#ask(visitor, '/api/page', {}, 401);
    const authorization = `Basic ${Buffer.from('user1:user1').toString('base64')}`;
    await this.#ask(visitor, '/api/page', { headers: { authorization } }, 200);
    for (let i = 0; i < 4; i++) await this.#ask(visitor, '/scarce/page', {}, 200, 429);
    await this.#ask(visitor, '/private/page', {}, 401);
    if (randomInt(10) === 0) for (let i = 0; i < 12; i++) await this.#ask(visitor, `/scan-${i}`, {}, 404, 403);
  }

  /** Bytes that are no request, handshakes that break off, connections that bring nothing. */
  async #hostile(visitor: Visitor): Promise<void> {
    const { connection, socket } = await visitor.dial();
    const texts = [
      '',
      'GET /echo HT',
      'not HTTP at all\r\n\r\n',
      'GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
      'POST /pass/page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf of it',
      'GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\x05hello',
    ];
    socket.resume();
    socket.write(texts[randomInt(texts.length)]!, 'latin1');
    await Promise.race([new Promise(resolve => socket.once('close', resolve)), pause(randomInt(100, 1_000))]);
    this.counts['broken off']++;
    if (Math.random() < 0.5) connection.destroy();
    else connection.resetAndDestroy();
  }

  async #events(visitor: Visitor): Promise<void> {
    this.counts.requests++;
    const { status, body, abort } = await visitor.stream('/pass/events');
    if (status !== 200) this.#fault(`an event stream was answered with ${status}`);
    body.on('error', () => {});
    let events = randomInt(1, 30);
    for await (const _ of body) if (--events === 0 || this.#isLeaving) break;
    abort();
  }

  async #bodies(visitor: Visitor): Promise<void> {
    const bytes = randomInt(1, 300_000);
    const sent = await this.#ask(visitor, '/pass/page', { method: 'POST', body: Buffer.alloc(bytes) }, 200);
    if (sent.text !== `${bytes}`) this.#fault('a body came with another length');
    const got = await this.#ask(visitor, `/pass/large?bytes=${bytes}`, {}, 200);
    if (got.text.length !== bytes) this.#fault('an answer came with another length');
    const { body, abort } = await visitor.stream(`/pass/large?bytes=${10_000_000}`);
    body.on('error', () => {});
    body.once('data', () => body.pause());
    await pause(randomInt(200));
    abort();
    this.counts['broken off']++;
  }

  /** Resolves with undefined after a time, or soon when all are to leave. */
  async #patience(ms: number): Promise<undefined> {
    for (const end = performance.now() + ms; performance.now() < end && !this.#isLeaving; ) await pause(100);
  }
}

/** Nothing that a client waits for takes longer. */
async function withDeadline(visit: Promise<void>): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error('it takes longer than 30 s')), 30_000);
  try {
    await Promise.race([visit, promise]);
  } finally {
    clearTimeout(timer);
  }
}
