import { lstat, readdir } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { type ErrorCode, HoldfastError } from '../base/errors.ts';
import { DEFAULT_CONFIG_FILES, readConfig } from '../config/load.ts';
import { ADMIN_SOCKET, adminSocketsOf } from '../server/admin/admin-socket.ts';
import { isAnswered, withShortPath } from '../server/listen/socket-file.ts';
import { standardError } from '../server/log/standard-output.ts';
import type { CommandOption, OptionValues } from './command.ts';
import { configFile, configOption } from './config-option.ts';

/** The options of every command that asks a running server. */
export const adminOptions = {
  config: configOption,
  socket: {
    type: 'string',
    placeholder: 'PATH',
    help: 'the admin socket of the server; default: that of the data folder of its configuration',
  },
  json: { type: 'boolean', help: 'print JSON, for programs' },
} as const satisfies Readonly<Record<string, CommandOption>>;

export type AdminQuery = Readonly<Record<string, string | number | undefined>>;

const ANSWER_MS = 60_000;

/** Asks a running server, through its admin socket. */
export class AdminClient {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /**
   * The server that the options of a command name: by `--socket`, or by the data folder of `--config`.
   *
   * @throws {HoldfastError} ERR_ADMIN_UNREACHABLE when none runs there; ERR_ADMIN_AMBIGUOUS when several do.
   */
  static async find({ config, socket }: OptionValues): Promise<AdminClient> {
    if (typeof socket === 'string') return new AdminClient(resolve(socket));
    const paths = await socketsOf(config);
    const found: string[] = [];
    for (const path of paths) if (await isThere(path)) found.push(path);
    const [first, second] = found;
    if (first === undefined) {
      const message = `no server runs with this data folder: nobody answers at ${paths[0]}; start one with "holdfast serve", or name its socket with --socket or its configuration with --config`;
      throw new HoldfastError('ERR_ADMIN_UNREACHABLE', message);
    }
    if (second === undefined) return new AdminClient(first);
    const message = `several servers run with this data folder; name one of them: --socket ${found.join(', --socket ')}`;
    throw new HoldfastError('ERR_ADMIN_AMBIGUOUS', message);
  }

  /** @throws {HoldfastError} with the code and message of the server; ERR_ADMIN_UNREACHABLE when none runs there. */
  get<T>(path: string, query: AdminQuery = {}): Promise<T> {
    return this.#ask('GET', withQuery(path, query));
  }

  /** As `get`. */
  post<T>(path: string, body: object = {}): Promise<T> {
    return this.#ask('POST', path, JSON.stringify(body));
  }

  /** As `get`. */
  delete<T>(path: string): Promise<T> {
    return this.#ask('DELETE', path);
  }

  /**
   * Calls `onLine` with each object of a stream, until the server ends it or `signal` is aborted.
   *
   * An object `{ lost: n }` says that this reader was too slow for n lines. When the server ends it, or goes, stderr has a
   * line that says why.
   */
  async follow(
    path: string,
    query: AdminQuery,
    onLine: (line: Record<string, unknown>) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const response = await this.#send('GET', withQuery(path, query), undefined, signal);
    if (response.statusCode !== 200) throw failureOf(await textOf(response));
    const lines = createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY });
    let why = 'the server has ended';
    try {
      for await (const text of lines) {
        if (text === '') continue;
        const line = JSON.parse(text);
        // Lines of the log may have a field of this name, beside others.
        if (Object.keys(line).join() === 'ended') why = line.ended;
        else onLine(line);
      }
    } catch (error) {
      if (!signal?.aborted && !isCutOff(error)) throw error;
    } finally {
      response.destroy();
    }
    if (!signal?.aborted) standardError().write(`${why}\n`);
  }

  async #ask<T>(method: string, target: string, body?: string): Promise<T> {
    const response = await this.#send(method, target, body, AbortSignal.timeout(ANSWER_MS));
    const text = await textOf(response).catch(cause => {
      const message = `the server at ${this.path} has gone before its answer was over; ask again when it runs`;
      throw new HoldfastError('ERR_ADMIN_UNREACHABLE', message, { cause });
    });
    // What was judged has an answer of its own, whatever the status.
    if (response.statusCode! >= 400 && isFailure(text)) throw failureOf(text);
    return JSON.parse(text);
  }

  async #send(method: string, target: string, body?: string, signal?: AbortSignal): Promise<IncomingMessage> {
    const socket = await connectTo(this.path);
    const { promise, resolve: answered, reject } = Promise.withResolvers<IncomingMessage>();
    // Not by `import`: http/node-http.ts says why.
    const { request: open } = process.getBuiltinModule('node:http');
    const request = open({
      ...{ method, path: target, createConnection: () => socket, ...(signal && { signal }) },
      headers: { Host: 'localhost', Connection: 'close', ...(body !== undefined && BODY_HEADERS(body)) },
    });
    request.on('response', answered).on('error', error => {
      const why = signal?.aborted ? 'it gave no answer in time' : error.message;
      reject(
        new HoldfastError('ERR_ADMIN_UNREACHABLE', `cannot ask the server at ${this.path}: ${why}`, { cause: error }),
      );
    });
    request.end(body);
    return promise;
  }
}

const BODY_HEADERS = (body: string) => ({
  'Content-Type': 'application/json',
  'Content-Length': Buffer.byteLength(body),
});

/** The path of a request with names and values that may be anything: `adminPath('/v1/sessions', sid)`. */
export function adminPath(base: string, ...segments: readonly string[]): string {
  return [base, ...segments.map(encodeURIComponent)].join('/');
}

function withQuery(path: string, query: AdminQuery): string {
  const given = Object.entries(query).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]]));
  const search = new URLSearchParams(given).toString();
  return search === '' ? path : `${path}?${search}`;
}

/** The sockets that a server of this configuration may have. */
async function socketsOf(config: unknown): Promise<string[]> {
  const named = typeof config === 'string' ? resolve(config) : undefined;
  const file = named ?? (await fileHere());
  if (file === undefined) return adminSocketsOf(resolve('.holdfast'));
  try {
    const { admin, dataFolder = '.holdfast' } = (await readConfig(file)).config;
    const socket = admin ? admin.socket : undefined;
    return typeof socket === 'string' ? [resolve(socket)] : adminSocketsOf(resolve(dataFolder));
  } catch (error) {
    // A server runs on although its file has been broken since: it is most likely there.
    const usual = join(dirname(file), '.holdfast');
    if (await hasSocket(usual)) return adminSocketsOf(usual);
    throw error;
  }
}

async function fileHere(): Promise<string | undefined> {
  const names = await readdir(process.cwd()).catch((): string[] => []);
  return DEFAULT_CONFIG_FILES.some(name => names.includes(name)) ? configFile(undefined) : undefined;
}

async function hasSocket(folder: string): Promise<boolean> {
  return lstat(join(folder, ADMIN_SOCKET)).then(
    found => found.isSocket(),
    () => false,
  );
}

async function isThere(path: string): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined);
  return found?.isSocket() === true && (await isAnswered(path));
}

async function connectTo(path: string): Promise<Socket> {
  await checkOwner(path);
  return withShortPath(path, short => {
    return new Promise<Socket>((done, reject) => {
      const socket = connect(short);
      socket.once('connect', () => done(socket.off('error', reject)));
      socket.once('error', reject);
    });
  }).catch(cause => {
    throw new HoldfastError('ERR_ADMIN_UNREACHABLE', unreachable(path, cause), { cause });
  });
}

/** Whoever may write in its folder could have put another one there. */
async function checkOwner(path: string): Promise<void> {
  const uid = process.getuid?.();
  const owner = await lstat(path).then(
    found => found.uid,
    () => undefined,
  );
  if (uid === undefined || owner === undefined || owner === uid || owner === 0 || uid === 0) return;
  const message = `the admin socket ${path} belongs to another user (${owner}); run this as the user of the server`;
  throw new HoldfastError('ERR_ADMIN_UNREACHABLE', message);
}

function unreachable(path: string, { code, message }: NodeJS.ErrnoException): string {
  const why: Readonly<Record<string, string>> = {
    ENOENT: 'there is none; start a server with "holdfast serve"',
    ECONNREFUSED: 'its server has ended; start it with "holdfast serve"',
    EACCES: 'it is of another user; run this as the user of the server',
  };
  return `cannot connect to the admin socket ${path}: ${why[code ?? ''] ?? message}`;
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** The connection is gone, or the last line is not whole. */
function isCutOff(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ECONNRESET' || code === 'EPIPE' || error instanceof SyntaxError;
}

function isFailure(text: string): boolean {
  const answer = parsed(text);
  return answer === undefined || typeof answer.code === 'string';
}

function failureOf(text: string): HoldfastError {
  const { code = 'ERR_SERVER_FAILED', message = 'the server has answered what is no JSON' } = parsed(text) ?? {};
  return new HoldfastError(code as ErrorCode, message);
}

function parsed(text: string): { code?: string; message?: string } | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
