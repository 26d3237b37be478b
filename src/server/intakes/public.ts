import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { randomId } from '../../base/ids.ts';
import { type Admitted, admit, type Gateway, type Refused } from '../../gateway/admit.ts';
import type { Relay } from '../../gateway/relay/relay.ts';
import { type Served, serve } from '../../gateway/serve.ts';
import { sessionFailure } from '../../gateway/session-failure.ts';
import { type Ended, openUpgrade } from '../../gateway/upgrade.ts';
import type { HostNames } from '../../http/host-names.ts';
import { askForHttp1 } from '../../http/http1-required.ts';
import { isRefusal, RETRY_AFTER_S, type Refusal, refuse, refuseUnforeseen } from '../../http/refusal.ts';
import { clientAddressOf } from '../../http/request-head.ts';
import { asksForWebSocket } from '../../http/upgrade-request.ts';
import { refusalBody, refusalResponse, writeRefusal } from '../../http/write-refusal.ts';
import type { ConnectionFacts } from '../../websocket/endpoint-connection.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import type { Parts } from '../assembly/build.ts';
import { STOPPING } from '../drain.ts';
import type { Intake } from '../listen/intake.ts';
import type { AccessFacts } from '../logging.ts';

/** How long a client may take to read why it was refused. */
const REFUSAL_TIMEOUT_MS = 2_000;

const ignore = () => {};

/** What is known of a request so far. */
interface Known {
  /** By the clock, where there is an access log. */
  startedAt: number;
  flow: Admitted | Refused | undefined;
  served: Partial<Served> | undefined;
}

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
    // Where not even a refusal can be written.
    this.#serve(request, response, gateway).catch(() => response.destroy());
  }

  readonly onUpgrade = (request: IncomingMessage, socket: Duplex, early: Buffer): void =>
    this.#takeUpgrade(request, socket, early, this.#parts);

  #takeUpgrade(request: IncomingMessage, socket: Duplex, early: Buffer, gateway: Gateway): void {
    // Until its target takes it over, nobody else listens.
    socket.on('error', ignore);
    this.#upgrade(request, socket, early, gateway, false).catch(() => socket.destroy());
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
    return this.#upgrade(request, socket, early, this.#parts, !isAlone);
  }

  async #serve(request: IncomingMessage, response: ServerResponse, gateway: Gateway): Promise<void> {
    const known: Known = { startedAt: 0, flow: undefined, served: undefined };
    // Before anything is waited for: a client that leaves meanwhile has its line, too.
    if (this.#parts.accessLog.isOn) this.#logWhenClosed(request, response, known);
    try {
      const flow = await this.#admit(request, gateway);
      known.flow = flow;
      known.served = 'refusal' in flow ? flow.refusal : await serve(flow, request, response, this.#parts);
      if (isRefusal(known.served)) this.#refuse(request, response, known, known.served);
    } catch (error) {
      this.#refuse(request, response, known, this.#unforeseen(error));
    }
  }

  #admit(request: IncomingMessage, gateway: Gateway): Promise<Admitted | Refused> | Refused {
    return this.#isDraining ? { refusal: draining() } : admit(request, gateway);
  }

  async #upgrade(
    request: IncomingMessage,
    socket: Duplex,
    early: Buffer,
    gateway: Gateway,
    leaveUnknown: boolean,
  ): Promise<boolean> {
    const { handshakes } = this.#parts;
    const known: Known = { startedAt: this.#parts.clock.monotonic(), flow: undefined, served: undefined };
    handshakes.add(socket);
    try {
      const flow = await this.#admit(request, gateway);
      known.flow = flow;
      const refusal = 'refusal' in flow ? flow.refusal : undefined;
      if (leaveUnknown && refusal?.code === 'ERR_ROUTE_NOT_FOUND') return false;
      const ended = refusal ?? (await this.#openSocket(flow as Admitted, known, request, socket, early));
      if (isRefusal(ended)) this.#refuseUpgrade(request, socket, known, ended);
      else if (ended) this.#log(request, known, ended);
    } catch (error) {
      this.#refuseUpgrade(request, socket, known, this.#unforeseen(error));
    } finally {
      handshakes.delete(socket);
    }
    return true;
  }

  async #openSocket(
    admitted: Admitted,
    known: Known,
    request: IncomingMessage,
    socket: Duplex,
    early: Buffer,
  ): Promise<Ended | Refusal | undefined> {
    const { accessLog, handshakes } = this.#parts;
    // It may have begun while the session was read.
    if (this.#isDraining) {
      admitted.held?.[Symbol.dispose]();
      return draining();
    }
    // An idle connection keeps what its last line will say only if there will be one.
    const onGone = accessLog.isOn ? this.#logWhenGone(this.#facts(request, known)) : undefined;
    const opened = await openUpgrade(admitted, socket, early, this.#parts, onGone);
    if (isRefusal(opened)) return opened;
    if (!('connection' in opened)) known.served = opened;
    if ('status' in opened) return opened;
    if ('relay' in opened) {
      handshakes.delete(socket);
      this.#follow(opened.relay, { ...this.#facts(request, known), connectionId: `r${randomId(6)}` });
      return undefined;
    }
    const { connection } = opened;
    // The connection listens itself: a second listener would cost each of them memory.
    socket.off('error', ignore);
    if (this.#isDraining) connection.close(CloseCode.goingAway, STOPPING);
    if (accessLog.isOn) accessLog.socketOpened({ ...this.#facts(request, known), connectionId: connection.id });
    return undefined;
  }

  #logWhenClosed(request: IncomingMessage, response: ServerResponse, known: Known): void {
    known.startedAt = this.#parts.clock.monotonic();
    response.once('close', () => {
      const { statusCode, headersSent, writableFinished } = response;
      const hasBody = headersSent && request.method !== 'HEAD' && statusCode !== 204 && statusCode !== 304;
      const ended = {
        status: headersSent ? statusCode : 499,
        bytes: hasBody ? (response as ServerResponse & { bytesWritten: number }).bytesWritten : 0,
        complete: writableFinished,
      };
      // What the target makes of its end is known when all that listens has run.
      setImmediate(() => this.#log(request, known, ended));
    });
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

  #refuse(request: IncomingMessage, response: ServerResponse, known: Known, refusal: Refusal): void {
    known.served = refusal;
    this.#logRefusal(request, known, refusal);
    writeRefusal(response, this.#explained(refusal));
  }

  /** Answers an upgrade with a refusal and ends the connection, whether the client reads it or not. */
  #refuseUpgrade(request: IncomingMessage, socket: Duplex, known: Known, refusal: Refusal): void {
    known.served = refusal;
    this.#logRefusal(request, known, refusal);
    const { status } = refusal;
    if (!socket.writable) {
      socket.destroy();
      return this.#log(request, known, { status: 499, bytes: 0, complete: false });
    }
    if (askForHttp1(refusal, socket)) return this.#log(request, known, { status, bytes: 0, complete: false });
    const answer = refusalResponse(this.#explained(refusal));
    const { clock } = this.#parts;
    const timer = clock.setTimeout(() => socket.destroy(), REFUSAL_TIMEOUT_MS);
    const bytes = Buffer.byteLength(refusalBody(refusal));
    socket.once('close', () => {
      clock.clearTimeout(timer);
      this.#log(request, known, { status, bytes, complete: socket.writableFinished });
    });
    socket.end(answer, () => socket.destroy());
  }

  /** With the reason for the client, where it may know. */
  #explained(refusal: Refusal): Refusal {
    if (!this.#parts.exposeReason || refusal.failure === undefined) return refusal;
    return { ...refusal, headers: { ...refusal.headers, 'Holdfast-Reason': refusal.failure } };
  }

  #logRefusal(request: IncomingMessage, known: Known, { status, code, reason, failure }: Refusal): void {
    const address = this.#clientAddress(request, known);
    this.#parts.logger.info({ event: 'refused', status, code, failure, method: request.method, address }, reason);
  }

  #clientAddress(request: IncomingMessage, { flow }: Known): string {
    return flow?.head?.clientAddress ?? clientAddressOf(request, this.#parts);
  }

  #log(request: IncomingMessage, known: Known, { status, bytes, complete }: Ended): void {
    const { accessLog, clock } = this.#parts;
    if (!accessLog.isOn) return;
    const durationMs = Math.round(clock.monotonic() - known.startedAt);
    accessLog.request({ ...this.#facts(request, known), status, bytesSent: bytes, complete, durationMs });
  }

  #facts(request: IncomingMessage, known: Known): AccessFacts {
    const { flow, served } = known;
    const { held, observed } = (flow ?? {}) as Partial<Admitted>;
    const sid = held?.session?.id ?? observed?.liveKey;
    const { referer, 'user-agent': userAgent } = request.headers;
    return {
      clientAddress: this.#clientAddress(request, known),
      method: request.method ?? '',
      target: request.url ?? '',
      httpVersion: request.httpVersion,
      ...(flow?.route && { route: flow.route.name }),
      ...(served?.upstream !== undefined && { upstream: served.upstream }),
      ...(served?.server !== undefined && { server: served.server }),
      ...(sid !== undefined && { sid }),
      ...(referer !== undefined && { referer }),
      ...(userAgent !== undefined && { userAgent }),
    };
  }

  #unforeseen(error: unknown): Refusal {
    return sessionFailure(error) ?? refuseUnforeseen(error, this.#parts.logger, 'a request failed');
  }
}

function draining(): Refusal {
  return refuse(503, 'ERR_SERVER_STATE', STOPPING, {
    closeCode: CloseCode.goingAway,
    failure: 'draining',
    headers: { 'Retry-After': RETRY_AFTER_S, Connection: 'close' },
  });
}
