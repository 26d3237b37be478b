import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { randomId } from '../../base/ids.ts';
import { type Admitted, type Answered, admit, type Gateway, type Refused } from '../../gateway/admit.ts';
import { answerPolicyOf } from '../../gateway/answer-policy.ts';
import { LiveSocket } from '../../gateway/live-sockets.ts';
import { CLIENT_GONE } from '../../gateway/relay/declined-answer.ts';
import type { Relay } from '../../gateway/relay/relay.ts';
import { serve } from '../../gateway/serve.ts';
import { sessionFailure } from '../../gateway/session-failure.ts';
import { type Ended, openUpgrade } from '../../gateway/upgrade.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import type { HostNames } from '../../http/host-names.ts';
import { askForHttp1 } from '../../http/http1-required.ts';
import { isLastAccepted } from '../../http/last-accepted.ts';
import { linger } from '../../http/linger.ts';
import { isRefusal, RETRY_AFTER_S, type Refusal, refuse, refuseUnforeseen } from '../../http/refusal.ts';
import { asksForWebSocket } from '../../http/upgrade-request.ts';
import { refusalBody, refusalResponse, writeRefusal } from '../../http/write-refusal.ts';
import type { ConnectionFacts } from '../../websocket/endpoint-connection.ts';
import { startReads } from '../../websocket/transport-reads.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import type { Assembly } from '../assembly/build.ts';
import { holdToRules } from '../assembly/hold-to-rules.ts';
import { endIfStale } from '../assembly/stale-streams.ts';
import { BANNED } from '../banned.ts';
import { STOPPING } from '../drain.ts';
import type { Intake } from '../listen/intake.ts';
import type { AccessFacts, SocketCloser, SocketTraffic } from '../log/access-entry.ts';
import { RequestRecord, recordRefusedBelow } from './request-record.ts';

type Recorded = RequestRecord<Serving>;

const ignore = () => {};

/** What serves what comes in. */
export type Serving = Gateway &
  Pick<
    Assembly,
    | 'accessLog'
    | 'answers'
    | 'bans'
    | 'closeCodes'
    | 'exposeReason'
    | 'handshakes'
    | 'lingering'
    | 'logger'
    | 'meters'
    | 'routes'
    | 'running'
    | 'sockets'
    | 'unlogged'
    | 'unreadLines'
  >;

/** Where requests and upgrades come in from a listener: each goes through `admit` and on to its target. */
export class PublicIntake implements Intake {
  readonly isUpgrade = asksForWebSocket;
  #assembly!: Serving;
  #isDraining = false;
  #isRestart = false;
  readonly #hosts: HostNames | undefined;

  /** @param hosts Those that its listener answers to. Default: all. */
  constructor(hosts?: HostNames) {
    this.#hosts = hosts;
  }

  /** What comes in from now on is served by this one. */
  use(assembly: Serving): void {
    this.#assembly = { ...assembly, hosts: this.#hosts };
  }

  /** From now on everything new is answered with 503. */
  beginDraining({ isRestart }: { readonly isRestart: boolean }): void {
    this.#isDraining = true;
    this.#isRestart = isRestart;
  }

  readonly onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    response.on('error', ignore);
    // Where not even a refusal can be written.
    const record = new RequestRecord(request, this.#assembly);
    const serve = () => this.#serve(record, request, response);
    (record.trace ? record.trace.run(serve) : serve()).catch(() => response.destroy());
  };

  readonly onUpgrade = (request: IncomingMessage, socket: Duplex, early: Buffer): void => {
    // Until its target takes it over, nobody else listens.
    socket.on('error', ignore);
    this.takeUpgrade(request, socket, early).catch(() => socket.destroy());
  };

  readonly onRefused = (request: IncomingMessage, refusal: Refusal, answer: ServerResponse | Duplex): void =>
    recordRefusedBelow(this.#assembly, request, refusal, answer);

  async #serve(record: Recorded, request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Before anything is waited for: a client that leaves meanwhile has its line, too.
    record.endWith(response);
    const { running } = record.assembly;
    running.begin();
    response.once('close', () => running.end());
    try {
      const flow = await this.#admit(request, record);
      record.flow = flow;
      if ('answer' in flow) return void answerPreflight(response, flow.answer);
      if (!('refusal' in flow)) this.#keep(response, flow, record.assembly);
      record.outcome = 'refusal' in flow ? flow.refusal : await serve(flow, request, response, record.assembly);
      if (isRefusal(record.outcome)) this.#refuse(response, record, record.outcome);
      else if (response.statusCode === 404) record.notFound();
    } catch (error) {
      this.#refuse(response, record, this.#unforeseen(error));
    }
  }

  /** Knows the answer until it is over. */
  #keep(response: ServerResponse, { head, route }: Admitted, judgedBy: Serving): void {
    const { answers } = this.#assembly;
    if (response.closed) return;
    const answer = { route, head };
    if (this.#assembly !== judgedBy) endIfStale(response, answer, this.#assembly);
    answers.set(response, answer);
    response.once('close', () => answers.delete(response));
  }

  #admit(
    request: IncomingMessage,
    { trace, assembly }: Recorded,
    leavesUnknown: boolean = false,
  ): Promise<Admitted | Answered | Refused> | Refused {
    return this.#isDraining && !isLastAccepted(request)
      ? { refusal: draining() }
      : admit(request, assembly, leavesUnknown, trace);
  }

  /**
   * As `onUpgrade`, where the caller listens for errors of the socket.
   *
   * @param leavesUnknown What has no route, or is refused before one is looked for, belongs to others. @returns false when it was left to them.
   */
  takeUpgrade(
    request: IncomingMessage,
    socket: Duplex,
    early: Buffer,
    leavesUnknown: boolean = false,
  ): Promise<boolean> {
    const record = new RequestRecord(request, this.#assembly, 'handshake');
    const take = () => this.#takeUpgrade(record, request, socket, early, leavesUnknown);
    return record.trace ? record.trace.run(take) : take();
  }

  async #takeUpgrade(
    record: Recorded,
    request: IncomingMessage,
    socket: Duplex,
    early: Buffer,
    leavesUnknown: boolean,
  ): Promise<boolean> {
    const { handshakes, running } = record.assembly;
    handshakes.set(socket, record);
    running.begin();
    try {
      const flow = await this.#admit(request, record, leavesUnknown);
      record.flow = flow;
      const isRefused = 'refusal' in flow;
      if (leavesUnknown && isRefused && flow.route === undefined) {
        record.trace?.ended({ status: flow.refusal.status, complete: true, isLeft: true });
        return false;
      }
      if ('answer' in flow) throw new TypeError('a handshake was taken for a preflight');
      const ended = isRefused ? flow.refusal : await this.#openSocket(flow, record, socket, early);
      if (isRefusal(ended)) this.#refuseUpgrade(socket, record, ended);
      else if (ended) {
        record.end(ended);
        if (!socket.destroyed) this.#linger(socket);
      }
    } catch (error) {
      this.#refuseUpgrade(socket, record, this.#unforeseen(error));
    } finally {
      handshakes.delete(socket);
      running.end();
    }
    return true;
  }

  async #openSocket(
    admitted: Admitted,
    record: Recorded,
    socket: Duplex,
    early: Buffer,
  ): Promise<Ended | Refusal | undefined> {
    const { assembly } = record;
    const { accessLog, clock, handshakes, meters, sockets } = assembly;
    // It may have begun while the session was read.
    if (this.#isDraining) {
      admitted.held?.[Symbol.dispose]();
      admitted.seat?.leave();
      return draining();
    }
    const opening: { live?: LiveSocket; isGone?: true; hasLine?: true; onLine?: () => void } = {};
    const { name: route } = admitted.route;
    const { trace } = record;
    // An idle connection keeps what its last line will say only if there will be one.
    const logGone = accessLog.isOn ? this.#logWhenGone(record) : undefined;
    const opened = await openUpgrade(admitted, socket, early, assembly, (connection, end) => {
      opening.isGone = true;
      meters?.closed(opening.live?.route.name ?? route, 'endpoint', end.code, connection);
      trace?.closed(end);
      if (opening.live) sockets.delete(opening.live);
      // Its client may have gone before it is said that it is open.
      const log = () => logGone?.(connection, end);
      if (opening.hasLine) log();
      else opening.onLine = log;
    });
    if (isRefusal(opened)) return opened;
    if ('status' in opened) {
      record.outcome = opened;
      return opened;
    }
    meters?.shookHands(route, 'accepted');
    trace?.ended({ status: 101, complete: true });
    if ('connection' in opened) {
      const { connection } = opened;
      if (!opening.isGone) trace?.opened(connection.id);
      // The connection listens itself: a second listener would cost each of them memory.
      socket.off('error', ignore);
      // Its client may have gone at once.
      if (!opening.isGone) {
        opening.live = new LiveSocket(connection, connection.id, admitted, clock.now());
        this.#add(opening.live, assembly);
      }
      const { goingAway, restart } = assembly.closeCodes;
      if (this.#isDraining) connection.close(this.#isRestart ? restart : goingAway, STOPPING);
      // It may have begun while `accept` was waited for.
      if (this.#isBanned(admitted)) connection.close(CloseCode.policyViolation, BANNED);
      if (accessLog.isOn) accessLog.socketOpened({ ...record.facts(), connectionId: connection.id });
      opening.hasLine = true;
      opening.onLine?.();
      return undefined;
    }
    record.outcome = opened;
    handshakes.delete(socket);
    if (this.#isBanned(admitted)) opened.relay.close(CloseCode.policyViolation, BANNED);
    const live = new LiveSocket(opened.relay, `r${randomId(6)}`, admitted, clock.now());
    trace?.opened(live.id);
    if (trace) opened.relay.closed.then(end => trace.closed(end)).catch(ignore);
    this.#add(live, assembly);
    this.#follow(live, opened.relay, accessLog.isOn ? record : undefined);
    return undefined;
  }

  /** Knows it until it has ended. Other rules may have begun to hold since its handshake was judged. */
  #add(live: LiveSocket, judgedBy: Serving): void {
    judgedBy.sockets.add(live);
    const leaving = this.#assembly === judgedBy ? undefined : holdToRules(live, this.#assembly);
    if (leaving) live.close(leaving.code, leaving.reason);
  }

  #isBanned({ head }: Admitted): boolean {
    return this.#assembly.bans.isBanned(head.clientAddress);
  }

  #logWhenGone(record: RequestRecord): ConnectionFacts['onGone'] {
    const facts = record.facts();
    const finish = finishing(record, facts);
    const openedAt = this.#assembly.clock.monotonic();
    return ({ id, messagesReceived, messagesSent, bytesReceived, bytesSent, isClosedByPeer }, end) => {
      const by = end.code === CloseCode.abnormal ? 'lost' : isClosedByPeer ? 'client' : 'server';
      const traffic = { connectionId: id, messagesReceived, messagesSent, bytesReceived, bytesSent };
      this.#logClosed(facts, openedAt, { ...end, by }, traffic, finish);
    };
  }

  /** Knows the relay until it has ended, and of its request what its last line says. */
  #follow(live: LiveSocket, relay: Relay, record: RequestRecord | undefined): void {
    const facts = record?.facts();
    const finish = record && facts && finishing(record, facts);
    const { accessLog, clock, meters, sockets } = this.#assembly;
    const openedAt = clock.monotonic();
    const { id: connectionId } = live;
    if (this.#isDraining) relay.close(this.#assembly.closeCodes.restart, STOPPING);
    if (facts) accessLog.socketOpened({ ...facts, connectionId });
    relay.closed
      .then(end => {
        sockets.delete(live);
        meters?.closed(live.route.name, 'relay', end.code, relay);
        if (!facts) return;
        const by = end.code === CloseCode.abnormal ? 'lost' : end.by === 'gateway' ? 'server' : end.by;
        const traffic = {
          connectionId,
          messagesReceived: relay.sent.messages,
          messagesSent: relay.received.messages,
          bytesReceived: relay.sent.bytes,
          bytesSent: relay.received.bytes,
        };
        this.#logClosed(facts, openedAt, { ...end, by }, traffic, finish);
      })
      .catch(ignore);
  }

  #logClosed(
    facts: AccessFacts,
    openedAt: number,
    { code, reason, by }: { code: number; reason: string; by: SocketCloser },
    socket: SocketTraffic,
    finish: ((elapsedMs: number) => void) | undefined,
  ): void {
    const { accessLog, clock } = this.#assembly;
    const elapsedMs = clock.monotonic() - openedAt;
    finish?.(elapsedMs);
    const durationMs = Math.round(elapsedMs);
    accessLog.socketClosed({ ...facts, ...socket, closeCode: code, closeReason: reason, closedBy: by, durationMs });
  }

  #refuse(response: ServerResponse, record: RequestRecord, refusal: Refusal): void {
    record.refuse(refusal);
    const { route, head } = record.flow ?? {};
    // Who may not come in is not told which paths there are.
    const isBarred = record.flow !== undefined && 'isBarred' in record.flow;
    // A page of another origin is to learn why, too.
    if (head && route && !response.headersSent && !isBarred) answerPolicyOf(route, head)?.putOn(response);
    writeRefusal(response, this.#explained(refusal));
  }

  /** Answers an upgrade with a refusal and ends the connection. */
  #refuseUpgrade(socket: Duplex, record: RequestRecord, refusal: Refusal): void {
    record.refuse(refusal);
    const { status, code } = refusal;
    if (!socket.writable || code === 'ERR_WS_CONNECTION_LOST') {
      socket.destroy();
      return record.end(CLIENT_GONE);
    }
    if (askForHttp1(refusal, socket)) return record.end({ status, bytes: 0, complete: false });
    record.endWithSocket(socket, status, Buffer.byteLength(refusalBody(refusal)));
    socket.end(refusalResponse(this.#explained(refusal)));
    this.#linger(socket);
  }

  /** Reads on behind the answer, so that a client that goes on sending can take it. */
  #linger(socket: Duplex): void {
    const { lingering, clock } = this.#assembly;
    startReads(socket, ignore);
    lingering.add(socket);
    socket.once('close', () => lingering.delete(socket));
    linger(socket, clock);
  }

  /** With the reason for the client, where it may know. */
  #explained(refusal: Refusal): Refusal {
    if (!this.#assembly.exposeReason || refusal.failure === undefined) return refusal;
    return { ...refusal, headers: { ...refusal.headers, 'Holdfast-Reason': refusal.failure } };
  }

  #unforeseen(error: unknown): Refusal {
    return sessionFailure(error) ?? refuseUnforeseen(error, this.#assembly.logger, 'a request failed');
  }
}

/** An idle connection keeps its request only where a line will tell more of it than the facts. */
function finishing(record: RequestRecord, facts: AccessFacts): ((elapsedMs: number) => void) | undefined {
  return facts.detail && (elapsedMs => record.socketEnded(facts, elapsedMs));
}

function answerPreflight(response: ServerResponse, lines: readonly HeaderLine[]): void {
  for (const { name, value } of lines) response.setHeader(name, value);
  response.writeHead(204).end();
}

function draining(): Refusal {
  return refuse(503, 'ERR_SERVER_STATE', STOPPING, {
    closeCode: CloseCode.goingAway,
    failure: 'draining',
    headers: { 'Retry-After': RETRY_AFTER_S, Connection: 'close' },
  });
}
