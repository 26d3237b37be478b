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

/** The ways to the admin API that are open: its socket, its port, both, or none. */
export class Admin {
  readonly #closing: (() => Promise<void>)[] = [];
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

  /** Ends what is under way as well. */
  async close(): Promise<void> {
    await Promise.all(this.#closing.splice(0).map(close => close()));
    this.url = undefined;
    this.path = undefined;
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
      this.#closing.push(async () => {
        const closed = opened.close();
        http.close();
        http.closeAll();
        await closed;
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
    this.#closing.push(async () => tokens.close());
    const gate = new PortGate({
      ...{ tokens, security, isBanned: address => environment.isBanned(address) },
      hosts: new HostNames(hosts ?? [host].filter(isHostPattern)),
    });
    const listen = { port: number, host, ...(tls !== undefined && { tls }) };
    const port = new Port(listen, logger);
    const listener = new Listener(listen, port, new AdminIntake({ administered, gate, logger }), {
      ...{ config, clock, logger, trustedProxies, security },
      newcomers: new Newcomers(config, { clock, logger, trustedProxies }),
      withdrawCertificates: () => {},
    });
    await port.open();
    listener.open();
    this.url = listener.url;
    this.#closing.push(async () => {
      const closed = port.close();
      listener.close();
      listener.closeAll();
      await closed;
    });
  }
}
