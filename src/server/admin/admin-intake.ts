import { isUtf8 } from 'node:buffer';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Administered } from '../../admin/administered.ts';
import type { AdminAnswer } from '../../admin/api.ts';
import { LineQueue } from '../../admin/line-queue.ts';
import { systemClock } from '../../base/clock.ts';
import { HoldfastError, isHoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { isKnownMethod, unknownMethod } from '../../http/methods.ts';
import { RETRY_AFTER_S, refuseUnforeseen } from '../../http/refusal.ts';
import { IncomingBody } from '../../http/request-body.ts';
import type { Intake } from '../listen/intake.ts';

/** Who may ask. */
export interface AdminGate {
  /**
   * @returns whether the request has shown that it may do anything; without, only probes are answered.
   * @throws {HoldfastError} with status 403 for what is not answered at all.
   */
  admit(request: IncomingMessage): boolean;
}

export interface AdminIntakeOptions {
  readonly administered: Administered;
  readonly gate: AdminGate;
  readonly logger: Logger;
}

const MAX_BODY_BYTES = 65_536;
/** Under way at a time. */
const MAX_REQUESTS = 64;
const MAX_STREAMS = 16;

/** The admin API, on whichever listener or socket. What it needs is loaded with the first request. */
export class AdminIntake implements Intake {
  readonly #options: AdminIntakeOptions;
  #requests = 0;
  readonly #streams = new Set<ServerResponse>();
  readonly #answers = new Set<ServerResponse>();
  /** The last line of streams; undefined as long as they go on. */
  #lastLine: string | undefined;
  #onIdle = () => {};

  constructor(options: AdminIntakeOptions) {
    this.#options = options;
  }

  isUpgrade(): boolean {
    return false;
  }

  onUpgrade(_request: IncomingMessage, socket: Duplex): void {
    socket.destroy();
  }

  /** A function of its own, because a listener calls it as one. */
  readonly onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    response.on('error', () => {});
    this.#answers.add(response);
    response.once('close', () => {
      this.#answers.delete(response);
      if (this.#answers.size === 0) this.#onIdle();
    });
    request.on('error', () => {});
    this.#answer(request, response)
      .catch((error: unknown) => this.#sendFailure(request, response, error))
      // It has gone.
      .catch(() => response.destroy());
  };

  /**
   * Ends the streams. Resolves when the requests under way have their answers, at the latest after this time.
   *
   * @param why For those who follow a stream; undefined: the server ends, which they see by themselves.
   */
  async finish(limitMs: number, why: string | undefined): Promise<void> {
    const lastLine = why === undefined ? '' : `${JSON.stringify({ ended: why })}\n`;
    this.#lastLine = lastLine;
    for (const response of this.#streams) response.end(lastLine);
    if (this.#answers.size === 0) return;
    await new Promise<void>(resolve => {
      const timer = systemClock.setTimeout(resolve, limitMs);
      this.#onIdle = () => {
        systemClock.clearTimeout(timer);
        resolve();
      };
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request;
    if (!isKnownMethod(method)) {
      const { status, code, reason } = unknownMethod(method);
      throw new HoldfastError(code, reason, { status });
    }
    const isTrusted = this.#options.gate.admit(request);
    if (this.#requests >= MAX_REQUESTS) throw busy(`${MAX_REQUESTS} requests are under way`);
    this.#requests++;
    let answer: AdminAnswer;
    try {
      const { answerAdmin } = await import('../../admin/api.ts');
      const readBody = () => readText(request, response);
      answer = await answerAdmin(this.#options.administered, { method, target: url, isTrusted, readBody });
    } finally {
      this.#requests--;
    }
    if (answer.kind === 'lines') await this.#stream(answer, request, response);
    else send(request, response, answer.status, answer.contentType, answer.body);
  }

  /** Until the client goes. */
  async #stream(
    { stream, query }: Extract<AdminAnswer, { kind: 'lines' }>,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    // Its close would not be heard any more.
    if (response.destroyed) return;
    if (this.#streams.size >= MAX_STREAMS) throw busy(`${MAX_STREAMS} clients follow logs or traces`);
    let stop: (() => void) | undefined;
    const begin = () => {
      if (response.headersSent) return;
      response.writeHead(200, { ...HEADERS, 'Content-Type': 'application/x-ndjson' });
      response.flushHeaders();
    };
    const write = (text: string) => {
      begin();
      return response.write(text);
    };
    const queue = new LineQueue({ write });
    response.on('drain', () => queue.resume());
    response.once('close', () => {
      this.#streams.delete(response);
      stop?.();
    });
    const onLine = (line: object) => {
      if (!response.writableEnded) queue.push(line);
    };
    stop = await this.#options.administered.follow(stream, query, onLine);
    if (response.destroyed) stop();
    else if (request.method === 'HEAD') response.writeHead(200, HEADERS).end();
    else begin();
    if (this.#lastLine !== undefined) response.end(this.#lastLine);
    else if (!response.destroyed) this.#streams.add(response);
  }

  #sendFailure(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    // Its client has left within the body: nobody hears an answer, and nothing is wrong here.
    if (request.destroyed && !request.complete && !isHoldfastError(error)) return void response.destroy();
    const what = 'a request to the admin API failed';
    const { logger } = this.#options;
    if (!isHoldfastError(error)) {
      const { status, code, reason: message } = refuseUnforeseen(error, logger, what);
      return send(request, response, status, 'application/json', JSON.stringify({ code, message }));
    }
    const { code, message } = error;
    const status = error.status ?? STATUS[code] ?? 500;
    if (status >= 500 && status !== 501) logger.error({ err: error }, what);
    send(request, response, status, 'application/json', JSON.stringify({ code, message }), {
      ...(status === 503 && { 'Retry-After': RETRY_AFTER_S }),
      ...(status === 401 && { 'WWW-Authenticate': 'Bearer' }),
      // Who may not ask keeps no connection.
      ...((code === 'ERR_ADMIN_FORBIDDEN' || [401, 403, 408, 413].includes(status)) && { Connection: 'close' }),
    });
  }
}

/** What the errors that have no status of their own say to a client. */
const STATUS: Readonly<Record<string, number>> = {
  ERR_SESSION_STORE_UNAVAILABLE: 503,
  ERR_SERVER_STATE: 503,
  ERR_CONFIG_INVALID: 422,
};

const HEADERS = {
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
};

function send(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  contentType: string,
  body: string,
  headers: Record<string, string> = {},
): void {
  // Nothing of HTTP/1 goes out over HTTP/2.
  const { Connection, ...rest } = headers;
  const isHttp1 = request.httpVersionMajor === 1;
  response.writeHead(status, {
    ...HEADERS,
    'Content-Type': contentType,
    'Content-Length': Buffer.byteLength(body),
    ...rest,
    ...(Connection !== undefined && isHttp1 && { Connection }),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

/** @throws {HoldfastError} ERR_HTTP_BODY_TOO_LARGE, ERR_HTTP_BODY_TIMEOUT, ERR_ADMIN_BAD_REQUEST. */
async function readText(request: IncomingMessage, response: ServerResponse): Promise<string> {
  const body = new IncomingBody(request, response, MAX_BODY_BYTES);
  try {
    const bytes = await new Response(body.stream).bytes();
    if (!isUtf8(bytes)) throw new HoldfastError('ERR_ADMIN_BAD_REQUEST', 'the body is not UTF-8', { status: 400 });
    return new TextDecoder().decode(bytes);
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_HTTP_BODY_TOO_LARGE') throw error;
    const message = `the body has more than ${MAX_BODY_BYTES} bytes, which is the most here`;
    throw new HoldfastError('ERR_HTTP_BODY_TOO_LARGE', message, { status: 413, cause: error });
  } finally {
    body.discardRest();
  }
}

function busy(what: string): HoldfastError {
  return new HoldfastError('ERR_ADMIN_BUSY', `${what}; end one of them, or come again later`, { status: 503 });
}
