import { join } from 'node:path';
import type { Administered } from '../../admin/administered.ts';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/message-of.ts';
import type { AdminConfig, Config } from '../../config/config.ts';
import type { AddressList } from '../../http/address-list.ts';
import { HostNames, isHostPattern } from '../../http/host-names.ts';
import type { SecurityEvents } from '../../policy/security-events.ts';
import type { DataFolder } from '../data-folder.ts';
import { Http1Server } from '../listen/http1/server.ts';
import { Listener } from '../listen/listener.ts';
import { Newcomers } from '../listen/newcomers.ts';
import { Port } from '../listen/port.ts';
import { PortGate, socketGate } from './admin-gate.ts';
import { AdminIntake } from './admin-intake.ts';
import { AdminSocket, adminSocketsOf } from './admin-socket.ts';
import { AdminTokens } from './admin-tokens.ts';

export interface AdminEnvironment {
  readonly config: Config;
  /** The socket is wished for, also where nothing is said of it: it is then no error that it cannot be had. */
  readonly wantsSocket: boolean;
  readonly dataFolder: DataFolder;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly trustedProxies: AddressList;
  readonly security: SecurityEvents;
  isBanned(address: string): boolean;
}

/** Whoever can connect is the owner: it is no crowd. */
const SOCKET_TERMS = {
  head: { timeoutMs: 10_000, maxBytes: 16_384 },
  pace: { silenceMs: 60_000, bytesPerSecond: 0 },
  keepAliveMs: 5_000,
  countsBytes: false,
};

/** How long requests under way may take when it is closed. */
const FINISH_MS = 2_000;

interface Way {
  readonly intake: AdminIntake;
  /** Takes no more connections. Resolves when its place is free. */
  letGo(): Promise<void>;
  /** Ends what is open, and resolves when it is over. */
  end(): Promise<void>;
}

/** The ways to the admin API that are open: its socket, its port, both, or none. */
export class Admin {
  readonly #ways: Way[] = [];
  #letsGo: Promise<unknown> | undefined;
  /** Of its port. */
  url: string | undefined;
  /** Of its socket. */
  path: string | undefined;

  /** @throws {HoldfastError} ERR_SERVER_LISTEN, ERR_CONFIG_INVALID. Nothing stays open then. */
  static async open(administered: Administered, environment: AdminEnvironment): Promise<Admin> {
    const admin = new Admin();
    try {
      const settings = environment.config.admin || {};
      if (environment.config.admin !== false) await admin.#openSocket(administered, settings, environment);
      if (settings.port !== undefined)
        await admin.#openPort(administered, { ...settings, port: settings.port }, environment);
      return admin;
    } catch (error) {
      await admin.close();
      throw error;
    }
  }

  /** Takes no more connections. Resolves when its places are free; what is under way goes on. */
  async letGo(): Promise<void> {
    this.url = undefined;
    this.path = undefined;
    this.#letsGo ??= Promise.all(this.#ways.map(way => way.letGo()));
    await this.#letsGo;
  }

  /**
   * Resolves when nothing is under way any more. Streams end; requests have two seconds, so that one that changes the
   * admin API gets its answer.
   *
   * @param why For those who follow a stream; undefined: the server ends.
   */
  async close(why?: string): Promise<void> {
    await this.letGo();
    await Promise.all(
      this.#ways.map(async way => {
        await way.intake.finish(FINISH_MS, why);
        await way.end();
      }),
    );
  }

  async #openSocket(administered: Administered, { socket }: AdminConfig, environment: AdminEnvironment): Promise<void> {
    const { wantsSocket, dataFolder, clock, logger, trustedProxies } = environment;
    if (socket === false || (socket === undefined && !wantsSocket)) return;
    const paths = typeof socket === 'string' ? [socket] : adminSocketsOf(dataFolder.path);
    const intake = new AdminIntake({ administered, gate: socketGate, logger });
    const http = new Http1Server(intake, { ...SOCKET_TERMS, clock, logger });
    const newcomers = new Newcomers({}, { clock, logger, trustedProxies });
    try {
      const opened = await AdminSocket.open(paths, raw => http.take(raw, newcomers.enter(raw)));
      this.path = opened.path;
      this.#ways.push({
        intake,
        async letGo() {
          await opened.letGo();
          http.close();
        },
        async end() {
          http.closeAll();
          await opened.close();
        },
      });
    } catch (error) {
      if (socket !== undefined) throw error;
      logger.warn(
        { event: 'admin-socket-missing', path: join(dataFolder.path) },
        `holdfast status and the like will not find this server: ${messageOf(error)}`,
      );
    }
  }

  async #openPort(
    administered: Administered,
    { port: number, host = '127.0.0.1', hosts, tls, tokenFile }: AdminConfig & { port: number },
    environment: AdminEnvironment,
  ): Promise<void> {
    const { config, clock, logger, trustedProxies, security } = environment;
    const tokens = await AdminTokens.open(tokenFile, environment);
    const gate = new PortGate({
      ...{ tokens, security, isBanned: address => environment.isBanned(address) },
      hosts: new HostNames(hosts ?? [host].filter(isHostPattern)),
    });
    const intake = new AdminIntake({ administered, gate, logger });
    const listen = { port: number, host, ...(tls !== undefined && { tls }) };
    const port = new Port(listen, logger);
    let listener: Listener | undefined;
    let closed = Promise.resolve();
    this.#ways.push({
      intake,
      async letGo() {
        closed = port.close();
        listener?.close();
      },
      async end() {
        listener?.closeAll();
        tokens.close();
        await closed;
      },
    });
    listener = new Listener(listen, port, intake, {
      ...{ config, clock, logger, trustedProxies, security },
      newcomers: new Newcomers(config, { clock, logger, trustedProxies }),
      withdrawCertificates: () => {},
    });
    await port.open();
    listener.open();
    this.url = listener.url;
  }
}
