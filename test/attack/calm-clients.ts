import { once } from 'node:events';
import http from 'node:http';
import { WebSocket } from 'ws';

/** What others do while somebody attacks. */
export const KINDS = ['page', 'private', 'endpoint', 'relay'] as const;
export type Kind = (typeof KINDS)[number];
export type Latencies = Readonly<Record<Kind, number>>;

/** Of each kind, all of them together. */
const PER_SECOND = 100;
const CLIENTS = 4;

const HEADERS = { private: { Authorization: `Basic ${btoa('alice:right')}` }, page: {} };

/** Once each is sent, it counts how long the answer takes, whether or not others are answered: a server that stands still is seen. */
export class CalmClients {
  readonly failures: string[] = [];
  readonly #port: number;
  readonly #taken = new Map<Kind, number[]>();
  readonly #waiting = new Map<Kind, number>();
  readonly #agents: http.Agent[] = [];
  readonly #sockets: WebSocket[] = [];
  #timer: NodeJS.Timeout | undefined;
  #turn = 0;

  private constructor(port: number) {
    this.#port = port;
  }

  static async start(port: number): Promise<CalmClients> {
    const clients = new CalmClients(port);
    for (let i = 0; i < CLIENTS; i++) {
      clients.#agents.push(new http.Agent({ keepAlive: true, localAddress: `127.0.0.${10 + i}` }));
      for (const kind of ['endpoint', 'relay'] as const) {
        const socket = new WebSocket(`ws://127.0.0.1:${port}/${kind}`, {
          localAddress: `127.0.0.${20 + i}`,
          perMessageDeflate: false,
        });
        await once(socket, 'open');
        socket.on('message', data => clients.#ended(kind, performance.now() - Number(data)));
        socket.on('close', code => clients.#timer && clients.failures.push(`${kind}: closed with ${code}`));
        clients.#sockets.push(socket);
      }
    }
    clients.#timer = setInterval(() => clients.#each(), 1_000 / PER_SECOND);
    return clients;
  }

  /** The 99th percentile of what was answered since it was called before, in ms, and forgets it. */
  async p99(): Promise<Latencies> {
    await this.#quiet();
    const values = KINDS.map(kind => {
      const taken = (this.#taken.get(kind) ?? []).sort((a, b) => a - b);
      return [kind, taken[Math.ceil(taken.length * 0.99) - 1] ?? Number.POSITIVE_INFINITY];
    });
    this.#taken.clear();
    this.#timer = setInterval(() => this.#each(), 1_000 / PER_SECOND);
    return Object.fromEntries(values);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const socket of this.#sockets) socket.terminate();
    for (const agent of this.#agents) agent.destroy();
  }

  /** What has been sent is answered. */
  async #quiet(): Promise<void> {
    clearInterval(this.#timer);
    const end = performance.now() + 10_000;
    while ([...this.#waiting.values()].some(count => count > 0)) {
      if (performance.now() > end) {
        this.failures.push(`without an answer: ${JSON.stringify(Object.fromEntries(this.#waiting))}`);
        this.#waiting.clear();
        return;
      }
      await new Promise(resolve => setTimeout(resolve, 5));
    }
  }

  #each(): void {
    const turn = this.#turn++ % CLIENTS;
    this.#ask('page', '/', 'page', turn);
    this.#ask('private', '/private', 'hello alice', turn);
    for (const [index, kind] of (['endpoint', 'relay'] as const).entries()) {
      this.#begun(kind);
      this.#sockets[turn * 2 + index]!.send(String(performance.now()));
    }
  }

  #ask(kind: 'page' | 'private', path: string, expected: string, turn: number): void {
    this.#begun(kind);
    const begunAt = performance.now();
    const fail = (what: string) => {
      this.failures.push(`${kind}: ${what}`);
      this.#ended(kind, performance.now() - begunAt);
    };
    const options = { host: '127.0.0.1', port: this.#port, path, agent: this.#agents[turn]!, headers: HEADERS[kind] };
    http
      .get(options, response => {
        let text = '';
        response.setEncoding('utf8').on('data', chunk => {
          text += chunk;
        });
        response.on('end', () => {
          if (text === expected) this.#ended(kind, performance.now() - begunAt);
          else fail(`${response.statusCode}`);
        });
      })
      .on('error', error => fail(error.message));
  }

  #begun(kind: Kind): void {
    this.#waiting.set(kind, (this.#waiting.get(kind) ?? 0) + 1);
  }

  #ended(kind: Kind, ms: number): void {
    this.#waiting.set(kind, (this.#waiting.get(kind) ?? 0) - 1);
    const taken = this.#taken.get(kind) ?? [];
    if (taken.length === 0) this.#taken.set(kind, taken);
    taken.push(ms);
  }
}
