import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { Holdfast } from '../cli/run-holdfast.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';

/** Where it listens: on stdout, or in the log when the access log goes to stdout. */
const STARTED = /listening on (http:\S+)\nlistening on (https:\S+)\n|"urls":\["(http:[^"]+)","(https:[^"]+)"/;

/** What `holdfast.config.ts` imports the product from. */
export const productUrl: string = new URL('../../src/index.ts', import.meta.url).href;

/** How a client speaks to a served configuration. */
export type Wire = 'http/1' | 'tls' | 'http/2';
export const wires: readonly Wire[] = ['http/1', 'tls', 'http/2'];

export interface ServedOptions {
  /** More files for the folder, by name, which may name folders. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** Environment variables beside those of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** A folder that another process has used; it is not removed. Default: a new one. */
  readonly folder?: string;
  /** Descriptors that the process may have (`ulimit -n`). Default: as many as this one. */
  readonly maxDescriptors?: number;
}

/**
 * `holdfast serve` in a process of its own, with a plain listener and one with TLS (HTTP/1 and HTTP/2), in a folder of
 * its own.
 *
 * @example
 * await using server = await Served.yaml('routes: [{ path: /a, redirect: /b }]\n');
 * await fetch(`${server.url('http/1')}/a`, { redirect: 'manual' });
 */
export class Served {
  readonly folder: string;
  readonly program: Holdfast;
  readonly #isOwnFolder: boolean;
  #urls: readonly string[] = [];

  private constructor(config: { name: string; text: string }, options: ServedOptions) {
    this.#isOwnFolder = options.folder === undefined;
    this.folder = options.folder ?? mkdtempSync(join(tmpdir(), 'holdfast-guard-'));
    writeSelfSignedCertificate(this.folder);
    for (const [name, text] of Object.entries({ ...options.files, [config.name]: config.text })) {
      mkdirSync(dirname(join(this.folder, name)), { recursive: true });
      writeFileSync(join(this.folder, name), text);
    }
    const { env, maxDescriptors } = options;
    this.program = new Holdfast(['serve', '--config', config.name], { cwd: this.folder, env, maxDescriptors });
  }

  /** @param text The configuration without `listen`. */
  static yaml(text: string, options: ServedOptions = {}): Promise<Served> {
    const listen =
      'listen:\n  - { port: 0, host: 127.0.0.1 }\n  - { port: 0, host: 127.0.0.1, tls: { certificate: localhost.crt, key: localhost.key } }\n';
    return new Served({ name: 'holdfast.yaml', text: listen + text }, options).#started();
  }

  /**
   * @param text Statements of a module that has `createServer`, `defineConfig`, `defineEndpoint` and the two listeners
   * as `listen`, and that ends with
   *   `export default defineConfig({ listen, … })`.
   */
  static module(text: string, options: ServedOptions = {}): Promise<Served> {
    const start =
      `import { createServer, defineConfig, defineEndpoint } from '${productUrl}';\n` +
      `const listen = [{ port: 0, host: '127.0.0.1' }, { port: 0, host: '127.0.0.1', tls: { certificate: 'localhost.crt', key: 'localhost.key' } }];\n`;
    return new Served({ name: 'holdfast.config.ts', text: start + text }, options).#started();
  }

  /** Without a slash at its end. */
  url(wire: Wire): string {
    return this.#urls[wire === 'http/1' ? 0 : 1]!;
  }

  port(wire: Wire): number {
    return Number(new URL(this.url(wire)).port);
  }

  /** A connection for bytes of HTTP/1, on which the caller alone decides when its side ends. */
  async dial(wire: 'http/1' | 'tls', port = this.port(wire)): Promise<Socket> {
    const options = { host: '127.0.0.1', port, allowHalfOpen: true };
    const socket =
      wire === 'http/1'
        ? connect(options)
        : connectTls({ ...options, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
    socket.on('error', () => {});
    await once(socket, wire === 'http/1' ? 'connect' : 'secureConnect');
    return socket;
  }

  /** Memory of the process as the operating system counts it (`VmRSS`). */
  residentBytes(): number {
    const status = readFileSync(`/proc/${this.program.process.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
  }

  /** What the descriptors of the process lead to. */
  descriptors(): string[] {
    const folder = `/proc/${this.program.process.pid}/fd`;
    return readdirSync(folder).flatMap(name => {
      try {
        return [readlinkSync(join(folder, name))];
      } catch {
        // Closed meanwhile.
        return [];
      }
    });
  }

  /** Does the process still hold its end of this connection of ours? Also known of a socket that does not read. */
  holds({ localPort, remotePort }: Pick<Socket, 'localPort' | 'remotePort'>): boolean {
    const hex = (port: number | undefined) => port!.toString(16).toUpperCase().padStart(4, '0');
    const ends = new RegExp(`^ *\\d+: \\w+:${hex(remotePort)} \\w+:${hex(localPort)} (?:\\S+ +){6}(\\d+)`, 'm');
    const [, inode] = ends.exec(readFileSync('/proc/net/tcp', 'utf8')) ?? [];
    return inode !== undefined && inode !== '0';
  }

  /** Is it still running? */
  get isAlive(): boolean {
    return this.program.process.exitCode === null && this.program.process.signalCode === null;
  }

  /** The lines of its log so far, those that are JSON. */
  logged(): Record<string, unknown>[] {
    return `${this.program.stderr}\n${this.program.stdout}`
      .split('\n')
      .filter(line => line.startsWith('{') && line.endsWith('}'))
      .map(line => JSON.parse(line));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.program.kill('SIGKILL');
    await this.program.ended;
    if (this.#isOwnFolder) rmSync(this.folder, { recursive: true, force: true });
  }

  async #started(): Promise<this> {
    try {
      const match = await this.program.printed(STARTED);
      const [plain, secure] = match.slice(1).filter(url => url !== undefined);
      this.#urls = [plain!, secure!];
      return this;
    } catch (error) {
      await this[Symbol.asyncDispose]();
      throw error;
    }
  }
}
