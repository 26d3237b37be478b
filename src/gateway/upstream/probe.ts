import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { setDeadline } from '../../base/deadlines.ts';
import { foldNames, withoutOwned } from '../../http/hop-by-hop.ts';
import type { ResponseHead } from '../../http/response-head.ts';
import { checkUpgradeResponse } from '../../websocket/protocol/handshake.ts';
import { startReads } from '../../websocket/transport-reads.ts';
import { BackendConnection } from '../connection/connection.ts';
import { requestHeadText } from '../connection/request-head-text.ts';
import { whenOpen } from '../connection/stage.ts';
import { UpgradeClient } from '../connection/upgrade-client.ts';
import { errorName, type FailureReason, failureReason } from './failure.ts';

/** What a try of a server found: undefined when all is well. */
export type Finding = { readonly reason: FailureReason | 'status'; readonly error: string } | undefined;

/** How a server is watched, whatever it is watched for. */
export interface WatchOptions {
  readonly clock: Clock;
  readonly probe: () => Promise<Finding>;
  /** It takes requests from now on, or it is out of service. */
  readonly onChange: (isInService: boolean, why?: string) => void;
}

export interface CheckOptions {
  /** Asked for with GET. */
  readonly path: string;
  /** True: the check is a WebSocket handshake, which must be answered with a good 101. */
  readonly isWebSocket: boolean;
  /** Without WebSocket: the lowest and the highest status that is well. */
  readonly status: readonly [lowest: number, highest: number];
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

/**
 * How a server is tried: by a check, or else by opening a connection. What it returns never rejects.
 *
 * @throws {TypeError} when the check cannot be written.
 */
export function probeOf(
  open: () => Socket,
  check: CheckOptions | undefined,
  clock: Clock,
  maxHeadBytes: number,
): () => Promise<Finding> {
  if (!check) return () => tryConnection(open);
  const head = checkHead(check);
  return () => checkServer(new BackendConnection(open(), maxHeadBytes), head, check, clock);
}

/** Opens a connection and closes it again. */
function tryConnection(open: () => Socket): Promise<Finding> {
  return new Promise((resolve: (finding: Finding) => void) => {
    const socket = open();
    socket.on('error', error => resolve(failed(error, socket)));
    socket.on('close', () => resolve({ reason: 'reset', error: 'closed' }));
    whenOpen(socket, () => {
      resolve(undefined);
      socket.end(() => socket.destroy());
    });
  });
}

/**
 * Asks a server as a request or a relay would: one whose answers no client could be given is not well. The connection
 * is closed as soon as that is known.
 */
function checkServer(
  connection: BackendConnection,
  head: string,
  options: CheckOptions,
  clock: Clock,
): Promise<Finding> {
  const { isWebSocket, timeoutMs } = options;
  const key = randomBytes(16).toString('base64');
  return new Promise((resolve: (finding: Finding) => void) => {
    const { socket } = connection;
    const deadline = setDeadline(clock, timeoutMs, () => {
      resolve({ reason: 'timeout', error: `no answer within ${timeoutMs} ms` });
      connection.destroy();
    });
    socket.on('close', () => deadline?.clear());
    new UpgradeClient(connection, isWebSocket ? `${head}Sec-WebSocket-Key: ${key}\r\n` : head, {
      onSent() {},
      onFailed: error => resolve(failed(error, socket)),
      onDeclined(answer) {
        resolve(judgeStatus(answer.head.status, options));
        answer.destroy();
      },
      onSwitched(answer) {
        socket.on('error', ignore);
        const finding = judgeUpgrade(answer, isWebSocket ? key : undefined);
        resolve(finding);
        if (finding) return void socket.destroy();
        // It says goodbye, as a client does, so that no server logs a lost connection.
        socket.write(closeFrame());
        socket.on('end', () => socket.destroy());
        startReads(socket, ignore);
      },
    });
  });
}

/** Request line and headers of each check. */
function checkHead({ path, isWebSocket, headers }: CheckOptions): string {
  const owned = foldNames(['Connection', 'Upgrade', 'Sec-WebSocket-Key', 'Sec-WebSocket-Version']);
  const lines = [
    ...withoutOwned(['Host', 'localhost', 'User-Agent', 'Holdfast-Health-Check'], foldNames(Object.keys(headers))),
    ...withoutOwned(Object.entries(headers).flat(), owned),
    ...(isWebSocket
      ? ['Connection', 'Upgrade', 'Upgrade', 'websocket', 'Sec-WebSocket-Version', '13']
      : ['Connection', 'close']),
  ];
  const text = requestHeadText('GET', path, lines);
  if (text === undefined)
    throw new TypeError('"health" has a path or headers with characters that no request can have');
  return text;
}

function failed(error: Error, socket: Socket): Finding {
  return { reason: failureReason(error, socket), error: errorName(error) };
}

function judgeStatus(status: number, { isWebSocket, status: [lowest, highest] }: CheckOptions): Finding {
  if (!isWebSocket && status >= lowest && status <= highest) return undefined;
  return { reason: 'status', error: `answered ${status}` };
}

/** @param key Undefined when no upgrade was asked for. */
function judgeUpgrade(answer: ResponseHead, key: string | undefined): Finding {
  if (key === undefined) return { reason: 'invalid', error: 'unexpected 101' };
  try {
    checkUpgradeResponse(answer, { key });
    return undefined;
  } catch (error) {
    return { reason: 'invalid', error: errorName(error) };
  }
}

function ignore(): void {}

/** Close 1000 of a client, hence masked. RFC 6455 §5.2. */
function closeFrame(): Buffer {
  const mask = randomBytes(4);
  return Buffer.concat([Buffer.from([0x88, 0x82]), mask, Buffer.from([0x03 ^ mask[0]!, 0xe8 ^ mask[1]!])]);
}
