import { once } from 'node:events';
import { WebSocket } from 'ws';

/** What lives in a process, garbage apart. */
export interface Living {
  readonly heapBytes: number;
  /** Of buffers and the like. */
  readonly externalBytes: number;
  /** What is open, by kind: sockets, pipes, servers. Timers and requests to the operating system come and go. */
  readonly handles: Readonly<Record<string, number>>;
}

/** How many objects of each class there are. */
export type Census = ReadonlyMap<string, number>;

/** The environment for a process that is looked into: its inspector listens on a free port of this machine. */
export const inspectable: Readonly<Record<string, string>> = { NODE_OPTIONS: '--inspect=127.0.0.1:0' };

/**
 * A look into a Node process, by the inspector: what it says to a debugger, from outside of the program that it runs.
 *
 * @example
 * using inspected = await Inspected.connect(url);
 * const { heapBytes } = await inspected.living();
 */
export class Inspected implements Disposable {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #chunks: string[] = [];
  #last = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', data => this.#onMessage(JSON.parse(String(data))));
  }

  /** @param stderr What the process has printed so far: Node prints there where its inspector listens. */
  static async connect(stderr: string): Promise<Inspected> {
    const [, url] = /^Debugger listening on (ws:\S+)$/m.exec(stderr) ?? [];
    if (url === undefined)
      throw new Error('its inspector does not listen: start it with the environment `inspectable`');
    const socket = new WebSocket(url, { perMessageDeflate: false, maxPayload: 2 ** 30 });
    await once(socket, 'open');
    return new Inspected(socket);
  }

  async living(): Promise<Living> {
    await this.#collect();
    const text = await this.#evaluate(`JSON.stringify({
      memory: process.memoryUsage(),
      resources: process.getActiveResourcesInfo(),
    })`);
    const { memory, resources } = JSON.parse(text) as { memory: NodeJS.MemoryUsage; resources: string[] };
    const { usedSize } = (await this.#ask('Runtime.getHeapUsage')) as { usedSize: number };
    const counts: Record<string, number> = {};
    for (const kind of resources.filter(name => name.endsWith('Wrap'))) counts[kind] = (counts[kind] ?? 0) + 1;
    return { heapBytes: usedSize, externalBytes: memory.external, handles: counts };
  }

  /** Takes seconds, in which the process does nothing else. */
  async census(): Promise<Census> {
    await this.#collect();
    this.#chunks = [];
    await this.#ask('HeapProfiler.takeHeapSnapshot', { reportProgress: false });
    const { snapshot, nodes, strings } = JSON.parse(this.#chunks.join('')) as HeapSnapshot;
    this.#chunks = [];
    const { node_fields: fields, node_types: types } = snapshot.meta;
    const [type, name] = [fields.indexOf('type'), fields.indexOf('name')];
    const counted = new Set(['object', 'closure'].map(kind => types[type]!.indexOf(kind)));
    const counts = new Map<string, number>();
    for (let at = 0; at < nodes.length; at += fields.length) {
      if (!counted.has(nodes[at + type]!)) continue;
      const key = `${types[type]![nodes[at + type]!]} ${strings[nodes[at + name]!]}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return counts;
  }

  [Symbol.dispose](): void {
    this.#socket.terminate();
  }

  /** Twice: what a finalizer lets go of goes with the second one. */
  async #collect(): Promise<void> {
    for (let i = 0; i < 2; i++) {
      await this.#ask('HeapProfiler.collectGarbage');
      await this.#evaluate(`new Promise(resolve => setTimeout(resolve, 50, ''))`);
    }
  }

  async #evaluate(expression: string): Promise<string> {
    const options = { expression, returnByValue: true, awaitPromise: true };
    const { result } = (await this.#ask('Runtime.evaluate', options)) as { result: { value: string } };
    return result.value;
  }

  #ask(method: string, params: object = {}): Promise<unknown> {
    const id = ++this.#last;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, ({ result, error }) => (error ? reject(new Error(error.message)) : resolve(result)));
    this.#socket.send(JSON.stringify({ id, method, params }));
    return promise;
  }

  #onMessage(message: Answer & { id?: number; method?: string; params?: { chunk?: string } }): void {
    if (message.method === 'HeapProfiler.addHeapSnapshotChunk') this.#chunks.push(message.params!.chunk!);
    if (message.id === undefined) return;
    this.#waiting.get(message.id)?.(message);
    this.#waiting.delete(message.id);
  }
}

interface Answer {
  readonly result?: unknown;
  readonly error?: { readonly message: string };
}

interface HeapSnapshot {
  readonly snapshot: { readonly meta: { readonly node_fields: string[]; readonly node_types: string[][] } };
  readonly nodes: readonly number[];
  readonly strings: readonly string[];
}
