import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, createServer, type Server } from '../../src/index.ts';
import type { ServerEnvironment } from '../../src/server/server.ts';

export interface Answered {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: what it is follows from what was asked for
  readonly json: any;
}

export interface Question {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** A server with an admin port and an admin socket, in a data folder of its own. */
export class AdminServer {
  readonly server: Server;
  readonly folder: string;

  private constructor(server: Server, folder: string) {
    this.server = server;
    this.folder = folder;
  }

  static async start(config: Config = {}, environment: ServerEnvironment = {}): Promise<AdminServer> {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-admin-'));
    const server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        dataFolder: join(folder, 'data'),
        admin: { port: 0, socket: true },
        ...(!environment.logger && { log: { level: 'silent' } }),
        ...config,
      },
      environment,
    );
    await server.start();
    return new AdminServer(server, folder);
  }

  get token(): string {
    return readFileSync(join(this.folder, 'data/keys/admin.token'), 'utf8').trim();
  }

  async close(): Promise<void> {
    await this.server.stop({ drain: 0 });
    rmSync(this.folder, { recursive: true });
  }

  /** By the port, with the token. */
  ask(path: string, question: Question = {}): Promise<Answered> {
    const headers = { Authorization: `Bearer ${this.token}`, ...question.headers };
    return this.askPlainly(path, { ...question, headers });
  }

  /** By the port, with these headers only. */
  askPlainly(path: string, question: Question = {}): Promise<Answered> {
    const { port } = new URL(this.server.adminUrl!);
    return answerTo({ host: '127.0.0.1', port, path }, question);
  }

  /** By the socket. */
  askSocket(path: string, question: Question = {}): Promise<Answered> {
    return answerTo({ socketPath: this.server.adminSocket!, path }, question);
  }
}

function answerTo(where: http.RequestOptions, { method = 'GET', headers = {}, body }: Question): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const request = http.request({ ...where, method, headers: { ...headers }, agent: false }, response => {
      let text = '';
      response.setEncoding('utf8').on('data', chunk => {
        text += chunk;
      });
      response.on('error', reject).on('end', () => {
        const isJson = response.headers['content-type'] === 'application/json' && text !== '';
        resolve({
          status: response.statusCode!,
          headers: response.headers,
          text,
          json: isJson ? JSON.parse(text) : undefined,
        });
      });
    });
    request
      .on('error', reject)
      .end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
  });
}
