import { randomBytes } from 'node:crypto';
import http, { type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock, Timer } from '../../base/clock.ts';
import { checkUpgradeResponse } from '../../websocket/protocol/handshake.ts';
import { errorName, type FailureReason, failureReason } from './failure.ts';

/** What a check found: undefined when all is well. */
export type Finding = { readonly reason: FailureReason | 'status'; readonly error: string } | undefined;

export interface EjectionOptions {
  /**
   * Requests in a row that a server may fail before it is taken out of service. One that takes no connection is taken
   * out at once.
   */
  readonly failures: number;
  /** How long a server is left alone the first time; doubled each time that it still fails. */
  readonly timeMs: number;
  readonly maxTimeMs: number;
}

/**
 * Takes a server out of service that fails what it is asked (passive check), so that an unreachable one costs the
 * connect timeout once and not for every request.
 *
 * Before it comes back it is tried by us, not by a request; while that fails it stays out, for twice as long each time.
 * The next failure after its return takes it out again at once.
 */
export class Ejection {
  readonly #options: EjectionOptions;
  readonly #clock: Clock;
  readonly #probe: () => Promise<Finding>;
  readonly #onChange: (isEjected: boolean, why?: string) => void;
  #failures = 0;
  /** Times in a row that it was tried or taken out without a success. */
  #level = 0;
  #isEjected = false;
  #isUnreachable = false;
  #returnsAt = 0;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(
    options: EjectionOptions,
    clock: Clock,
    probe: () => Promise<Finding>,
    onChange: (isEjected: boolean, why?: string) => void,
  ) {
    this.#options = options;
    this.#clock = clock;
    this.#probe = probe;
    this.#onChange = onChange;
  }

  get isEjected(): boolean {
    return this.#isEjected;
  }

  /** True for one that let us wait: asking it again costs time, where one that refuses costs nothing. */
  get isUnreachable(): boolean {
    return this.#isUnreachable;
  }

  /** Time until it is tried again. 0 when it is in service. */
  get returnsInMs(): number {
    return this.#isEjected ? Math.max(0, this.#returnsAt - this.#clock.monotonic()) : 0;
  }

  /** @param isConnected False: it took no connection. */
  failed(reason: FailureReason, isConnected: boolean): void {
    // Our own limit, and no fault of the server.
    if (reason === 'busy' || this.#isClosed) return;
    this.#isUnreachable = reason === 'timeout' && !isConnected;
    this.#failures++;
    if (this.#isEjected || (isConnected && this.#failures < this.#options.failures)) return;
    this.#isEjected = true;
    this.#wait();
    this.#onChange(true, reason);
  }

  /** It gave an answer, whatever the answer was. */
  succeeded(): void {
    this.#failures = 0;
    this.#level = 0;
    if (this.#isEjected) this.#return();
  }

  close(): void {
    this.#isClosed = true;
    this.#clock.clearTimeout(this.#timer);
  }

  #wait(): void {
    const { timeMs, maxTimeMs } = this.#options;
    const ms = Math.min(timeMs * 2 ** this.#level++, maxTimeMs);
    this.#returnsAt = this.#clock.monotonic() + ms;
    this.#timer = this.#clock.setTimeout(() => void this.#tryOut(), ms);
  }

  async #tryOut(): Promise<void> {
    const finding = await this.#probe();
    if (this.#isClosed || !this.#isEjected) return;
    if (finding) {
      this.#isUnreachable = finding.reason === 'timeout';
      this.#wait();
      return;
    }
    // On trial: the level stays until a request has succeeded.
    this.#failures = this.#options.failures - 1;
    this.#return();
  }

  #return(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#isEjected = false;
    this.#isUnreachable = false;
    this.#onChange(false);
  }
}

export interface HealthOptions {
  /** Asked for with GET. */
  readonly path: string;
  /** True: the check is a WebSocket handshake, which must be answered with a good 101. */
  readonly isWebSocket: boolean;
  /** Without WebSocket: the lowest and the highest status that is well. */
  readonly status: readonly [lowest: number, highest: number];
  readonly headers: Readonly<Record<string, string>>;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Checks in a row that must fail before the server is out of service. */
  readonly unhealthyAfter: number;
  /** Checks in a row that must succeed before it is back. */
  readonly healthyAfter: number;
}

/** Asks a server again and again how it is (active check). Until the first answer it counts as healthy. */
export class HealthCheck {
  readonly #open: () => Socket;
  readonly #options: HealthOptions;
  readonly #clock: Clock;
  readonly #onChange: (isHealthy: boolean, why?: string) => void;
  #isHealthy = true;
  /** Checks in a row that said otherwise. */
  #against = 0;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(
    open: () => Socket,
    options: HealthOptions,
    clock: Clock,
    onChange: (isHealthy: boolean, why?: string) => void,
  ) {
    this.#open = open;
    this.#options = options;
    this.#clock = clock;
    this.#onChange = onChange;
  }

  get isHealthy(): boolean {
    return this.#isHealthy;
  }

  /** The first check is made at once. */
  start(): void {
    void this.#tick();
  }

  close(): void {
    this.#isClosed = true;
    this.#clock.clearTimeout(this.#timer);
  }

  /** One check, which counts for nothing. Never rejects. */
  check(): Promise<Finding> {
    return checkServer(this.#open, this.#options, this.#clock);
  }

  async #tick(): Promise<void> {
    const finding = await this.check();
    if (this.#isClosed) return;
    // One that we could not make says nothing of the server.
    if (finding?.reason !== 'busy') this.#judge(finding);
    this.#timer = this.#clock.setTimeout(() => void this.#tick(), this.#options.intervalMs);
  }

  #judge(finding: Finding): void {
    const { healthyAfter, unhealthyAfter } = this.#options;
    const isWell = finding === undefined;
    this.#against = isWell === this.#isHealthy ? 0 : this.#against + 1;
    if (this.#against < (isWell ? healthyAfter : unhealthyAfter) || this.#against === 0) return;
    this.#against = 0;
    this.#isHealthy = isWell;
    this.#onChange(isWell, finding && `${finding.reason}: ${finding.error}`);
  }
}

/** Opens a connection and closes it again. */
export function tryConnection(
  open: () => Socket,
  whenOpen: (socket: Socket, then: () => void) => void,
): Promise<Finding> {
  return new Promise((resolve: (finding: Finding) => void) => {
    const socket = open();
    socket.on('error', error => resolve({ reason: failureReason(error, socket), error: errorName(error) }));
    socket.on('close', () => resolve({ reason: 'reset', error: 'closed' }));
    whenOpen(socket, () => {
      resolve(undefined);
      socket.end(() => socket.destroy());
    });
  });
}

function checkServer(open: () => Socket, options: HealthOptions, clock: Clock): Promise<Finding> {
  const { path, isWebSocket, timeoutMs } = options;
  const key = randomBytes(16).toString('base64');
  return new Promise((resolve: (finding: Finding) => void) => {
    const request = http.request({
      createConnection: open,
      path,
      headers: {
        Host: 'localhost',
        'User-Agent': 'Holdfast-Health-Check',
        ...options.headers,
        ...(isWebSocket && {
          Connection: 'Upgrade',
          Upgrade: 'websocket',
          'Sec-WebSocket-Version': '13',
          'Sec-WebSocket-Key': key,
        }),
      },
    });
    let socket: Socket | undefined;
    const timer = clock.setTimeout(() => {
      settle({ reason: 'timeout', error: `no answer within ${timeoutMs} ms` });
      request.destroy();
      socket?.destroy();
    }, timeoutMs);
    let isSettled = false;
    const settle = (finding: Finding) => {
      if (isSettled) return;
      isSettled = true;
      resolve(finding);
    };
    const done = () => clock.clearTimeout(timer);
    request.on('error', error => {
      done();
      settle({ reason: failureReason(error, request.socket), error: errorName(error) });
    });
    request.on('response', answer => {
      settle(judgeStatus(answer, options));
      answer.on('error', () => {});
      done();
      // The connection is not used again: what else it has to say does not matter.
      request.destroy();
    });
    request.on('upgrade', (answer, upgraded) => {
      socket = upgraded as Socket;
      socket.on('error', () => {});
      socket.on('close', done);
      settle(judgeUpgrade(answer, key, isWebSocket));
      // It says goodbye, as a client does, so that no server logs a lost connection.
      socket.write(closeFrame());
      socket.on('end', () => socket!.destroy());
      socket.resume();
    });
    request.end();
  });
}

function judgeStatus(answer: IncomingMessage, { isWebSocket, status: [lowest, highest] }: HealthOptions): Finding {
  const status = answer.statusCode!;
  if (!isWebSocket && status >= lowest && status <= highest) return undefined;
  return { reason: 'status', error: `answered ${status}` };
}

function judgeUpgrade(answer: IncomingMessage, key: string, isWebSocket: boolean): Finding {
  if (!isWebSocket) return { reason: 'invalid', error: 'unexpected 101' };
  try {
    const headers = answer.headers as Record<string, string | undefined>;
    checkUpgradeResponse({ status: answer.statusCode!, headers }, { key });
    return undefined;
  } catch (error) {
    return { reason: 'invalid', error: errorName(error) };
  }
}

/** Close 1000 of a client, hence masked. RFC 6455 §5.2. */
function closeFrame(): Buffer {
  const mask = randomBytes(4);
  return Buffer.concat([Buffer.from([0x88, 0x82]), mask, Buffer.from([0x03 ^ mask[0]!, 0xe8 ^ mask[1]!])]);
}
