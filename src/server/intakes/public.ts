import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { randomId } from '../../base/ids.ts';
import { type Admitted, admit, type Gateway } from '../../gateway/admit.ts';
import type { Relay } from '../../gateway/relay/relay.ts';
import { serve } from '../../gateway/serve.ts';
import { sessionFailure } from '../../gateway/session-failure.ts';
import { openUpgrade } from '../../gateway/upgrade.ts';
import type { HostNames } from '../../http/host-names.ts';
import { askForHttp1 } from '../../http/http1-required.ts';
import { isRefusal, type Refusal, refuse } from '../../http/refusal.ts';
import { asksForWebSocket, clientAddressOf } from '../../http/request-head.ts';
import { takeUrlTicket } from '../../http/url-ticket.ts';
import { writeRefusal } from '../../http/write-refusal.ts';
import type { ConnectionFacts } from '../../websocket/endpoint-connection.ts';
import { refusalResponse } from '../../websocket/protocol/handshake.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import type { Parts } from '../assembly/build.ts';
import { STOPPING } from '../drain.ts';
import type { Intake } from '../listen/intake.ts';
import type { AccessFacts } from '../logging.ts';

/** How long a client may take to read why it was refused. */
const REFUSAL_TIMEOUT_MS = 2_000;

const ignore = () => {};

/** Where requests and upgrades come in from every listener: each goes through `admit` and on to its target. */
export class PublicIntake implements Intake {
  readonly #parts: Parts;
  #isDraining = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** From now on everything new is answered with 503. */
  beginDraining(): void {
    this.#isDraining = true;
  }

  readonly isUpgrade = asksForWebSocket;

  readonly onRequest = (request: IncomingMessage, response: ServerResponse): void =>
    this.#take(request, response, this.#parts);

  #take(request: IncomingMessage, response: ServerResponse, gateway: Gateway): void {
    response.on('error', ignore);
    const startedAt = this.#parts.clock.monotonic();
    this.#serve(request, response, startedAt, gateway)
      .catch(error => {
        const refusal = this.#unforeseen(error);
        this.#logRefusal(request, refusal);
        writeRefusal(response, refusal);
      })
      // Not even that can be written.
      .catch(() => response.destroy());
  }

  readonly onUpgrade = (request: IncomingMessage, socket: Duplex, early: Buffer): void =>
    this.#takeUpgrade(request, socket, early, this.#parts);

  #takeUpgrade(request: IncomingMessage, socket: Duplex, early: Buffer, gateway: Gateway): void {
    // Until its target takes it over, nobody else listens.
    socket.on('error', ignore);
    this.#upgrade(request, socket, early, gateway, false).catch(error =>
      this.#refuse(request, socket, this.#unforeseen(error)),
    );
  }

  /** The same for a listener that answers to some hosts only. */
  answeringTo(hosts: HostNames): Intake {
    const gateway: Gateway = { ...this.#parts, hosts };
    return {
      isUpgrade: this.isUpgrade,
      onRequest: (request, response) => this.#take(request, response, gateway),
      onUpgrade: (request, socket, early) => this.#takeUpgrade(request, socket, early, gateway),
    };
  }

  /**
   * An upgrade of a server that is not ours: what has no route here belongs to others, unless there are none. The
   * caller listens for errors of the socket. @returns false when it was left to others.
   */
  onAttachedUpgrade(request: IncomingMessage, socket: Duplex, early: Buffer, isAlone: boolean): Promise<boolean> {
    return this.#upgrade(request, socket, early, this.#parts, !isAlone).catch(error => {
      this.#refuse(request, socket, this.#unforeseen(error));
      return true;
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse, startedAt: number, gateway: Gateway): Promise<void> {
    const { accessLog, clock, urlParameters } = this.#parts;
    const urlTicket = takeUrlTicket(request, urlParameters);
    let admitted: Admitted | Refusal = draining();
    // Before anything is waited for: a client that leaves meanwhile has its line, too.
    if (accessLog.isOn)
      response.once('close', () =>
        accessLog.request({
          ...this.#facts(request, admitted),
          status: response.headersSent ? response.statusCode : 499,
          bytesSent: Number(response.getHeader('content-length') ?? 0),
          durationMs: Math.round(clock.monotonic() - startedAt),
        }),
      );
    if (!this.#isDraining) admitted = await admit(request, gateway, urlTicket);
    const refusal = isRefusal(admitted) ? admitted : await serve(admitted, request, response, this.#parts);
    if (!refusal) return;
    this.#logRefusal(request, refusal);
    writeRefusal(response, this.#explained(refusal));
  }

  async #upgrade(
    request: IncomingMessage,
    socket: Duplex,
    early: Buffer,
    gateway: Gateway,
    leaveUnknown: boolean,
  ): Promise<boolean> {
    const { handshakes, urlParameters } = this.#parts;
    handshakes.add(socket);
    const urlTicket = takeUrlTicket(request, urlParameters);
    try {
      const admitted = this.#isDraining ? draining() : await admit(request, gateway, urlTicket);
      if (leaveUnknown && isRefusal(admitted) && admitted.code === 'ERR_ROUTE_NOT_FOUND') return false;
      const refusal = isRefusal(admitted) ? admitted : await this.#openSocket(admitted, request, socket, early);
      if (refusal) this.#refuse(request, socket, refusal);
      return true;
    } finally {
      handshakes.delete(socket);
    }
  }

  async #openSocket(
    admitted: Admitted,
    request: IncomingMessage,
    socket: Duplex,
    early: Buffer,
  ): Promise<Refusal | undefined> {
    const { accessLog, handshakes } = this.#parts;
    // It may have begun while the session was read.
    if (this.#isDraining) {
      admitted.held?.[Symbol.dispose]();
      return draining();
    }
    // An idle connection keeps what its last line will say only if there will be one.
    const onGone = accessLog.isOn ? this.#logWhenGone(this.#facts(request, admitted)) : undefined;
    const opened = await openUpgrade(admitted, socket, early, this.#parts, onGone);
    if (opened === undefined || isRefusal(opened)) return opened;
    if ('relay' in opened) {
      handshakes.delete(socket);
      this.#follow(opened.relay, { ...this.#facts(request, admitted), connectionId: `r${randomId(6)}` });
      return undefined;
    }
    const { connection } = opened;
    // The connection listens itself: a second listener would cost each of them memory.
    socket.off('error', ignore);
    if (this.#isDraining) connection.close(CloseCode.goingAway, STOPPING);
    if (accessLog.isOn) accessLog.socketOpened({ ...this.#facts(request, admitted), connectionId: connection.id });
    return undefined;
  }

  #logWhenGone(facts: AccessFacts): ConnectionFacts['onGone'] {
    const { accessLog, clock } = this.#parts;
    const openedAt = clock.monotonic();
    return ({ id, messagesReceived, messagesSent }, { code, reason }) =>
      accessLog.socketClosed({
        ...facts,
        connectionId: id,
        closeCode: code,
        closeReason: reason,
        durationMs: Math.round(clock.monotonic() - openedAt),
        messagesReceived,
        messagesSent,
      });
  }

  /** Knows the relay until it has ended, and nothing of its request. */
  #follow(relay: Relay, facts: AccessFacts & { connectionId: string }): void {
    const { accessLog, clock, relays } = this.#parts;
    const openedAt = clock.monotonic();
    relays.add(relay);
    if (this.#isDraining) relay.close(CloseCode.goingAway, STOPPING);
    accessLog.socketOpened(facts);
    relay.closed
      .then(({ code, reason }) => {
        relays.delete(relay);
        accessLog.socketClosed({
          ...facts,
          closeCode: code,
          closeReason: reason,
          durationMs: Math.round(clock.monotonic() - openedAt),
          messagesReceived: relay.sent.messages,
          messagesSent: relay.received.messages,
          bytesReceived: relay.sent.bytes,
          bytesSent: relay.received.bytes,
        });
      })
      .catch(ignore);
  }

  /** Answers an upgrade with a refusal and ends the connection, whether the client reads it or not. */
  #refuse(request: IncomingMessage, socket: Duplex, refusal: Refusal): void {
    this.#logRefusal(request, refusal);
    if (!socket.writable) {
      socket.destroy();
      return;
    }
    if (askForHttp1(refusal, socket)) return;
    const { clock } = this.#parts;
    const timer = clock.setTimeout(() => socket.destroy(), REFUSAL_TIMEOUT_MS);
    socket.once('close', () => clock.clearTimeout(timer));
    socket.end(refusalResponse(this.#explained(refusal)), () => socket.destroy());
  }

  /** With the reason for the client, where it may know. */
  #explained(refusal: Refusal): Refusal {
    if (!this.#parts.exposeReason || refusal.failure === undefined) return refusal;
    return { ...refusal, headers: { ...refusal.headers, 'Holdfast-Reason': refusal.failure } };
  }

  #logRefusal(request: IncomingMessage, { status, code, reason, failure }: Refusal): void {
    const address = clientAddressOf(request, this.#parts);
    this.#parts.logger.info({ event: 'refused', status, code, failure, method: request.method, address }, reason);
  }

  #facts(request: IncomingMessage, admitted: Admitted | Refusal): AccessFacts {
    const sid = isRefusal(admitted) ? undefined : (admitted.held?.session?.id ?? admitted.observed?.liveKey);
    const { referer, 'user-agent': userAgent } = request.headers;
    return {
      clientAddress: isRefusal(admitted) ? clientAddressOf(request, this.#parts) : admitted.head.clientAddress,
      method: request.method ?? '',
      target: request.url ?? '',
      httpVersion: request.httpVersion,
      ...(!isRefusal(admitted) && { route: admitted.route.name }),
      ...(sid !== undefined && { sid }),
      ...(referer !== undefined && { referer }),
      ...(userAgent !== undefined && { userAgent }),
    };
  }

  /** The client gets an id; the log has the rest under the same id. */
  #unforeseen(error: unknown): Refusal {
    const failure = sessionFailure(error);
    if (failure) return failure;
    const id = randomId(9);
    this.#parts.logger.error({ err: error, id }, 'a request failed');
    return refuse(500, 'ERR_SERVER_FAILED', 'a request failed', {
      closeCode: 1011,
      body: `Internal Server Error (${id})\n`,
    });
  }
}

function draining(): Refusal {
  return refuse(503, 'ERR_SERVER_STATE', STOPPING, {
    closeCode: CloseCode.goingAway,
    failure: 'draining',
    headers: { 'Retry-After': '5', Connection: 'close' },
  });
}
