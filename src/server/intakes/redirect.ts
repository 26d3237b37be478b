import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { createFileServer, type FileServer } from '../../gateway/targets/files.ts';
import type { AddressList } from '../../http/address-list.ts';
import type { HostNames } from '../../http/host-names.ts';
import { httpsLocation } from '../../http/https-location.ts';
import { isRefusal, type Refusal, refuse } from '../../http/refusal.ts';
import { readRequestHead } from '../../http/request-head.ts';
import { writeRefusal } from '../../http/write-refusal.ts';
import type { Assembly } from '../assembly/build.ts';
import type { Intake } from '../listen/intake.ts';
import { type Recording, RequestRecord, recordRefusedBelow } from './request-record.ts';

/** RFC 8555 §8.3. */
const ACME_CHALLENGE = '/.well-known/acme-challenge/';

type Recorded = Recording & Pick<Assembly, 'unreadLines'>;

export interface HttpsRedirectOptions {
  readonly trustedProxies: AddressList;
  readonly hosts: HostNames | undefined;
  /** Folder whose `.well-known/acme-challenge/` is served. */
  readonly acmeChallenge: string | undefined;
  /** The port clients reach TLS at. Asked for each request. */
  httpsPort(): number;
}

/**
 * Answers every request with 308 to the same place by https, apart from the challenges of a certificate authority. An
 * upgrade is answered so, too: no session and no WebSocket ever begins here.
 */
export class HttpsRedirect implements Intake {
  readonly #options: HttpsRedirectOptions;
  #assembly!: Recorded;
  readonly #challenges: FileServer | undefined;

  constructor(options: HttpsRedirectOptions) {
    this.#options = options;
    this.#challenges = options.acmeChallenge === undefined ? undefined : createFileServer(options.acmeChallenge);
  }

  /** What comes in from now on has its lines in the logs of this one. */
  use(assembly: Recorded): void {
    this.#assembly = assembly;
  }

  readonly isUpgrade = (): boolean => false;

  readonly onUpgrade = (): void => {};

  readonly onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    response.on('error', () => {});
    const record = new RequestRecord(request, this.#assembly);
    record.endWith(response);
    this.#answer(request, response, record).then(
      refusal => {
        if (!refusal) return;
        record.refuse(refusal);
        writeRefusal(response, refusal);
      },
      () => response.destroy(),
    );
  };

  readonly onRefused = (request: IncomingMessage, refusal: Refusal, answer: ServerResponse | Duplex): void =>
    recordRefusedBelow(this.#assembly, request, refusal, answer);

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    record: RequestRecord<Recorded>,
  ): Promise<Refusal | undefined> {
    const head = readRequestHead(request, this.#options);
    if (isRefusal(head)) return head;
    record.flow = { head };
    if (this.#challenges && head.path.startsWith(ACME_CHALLENGE)) return this.#challenges(request, response, head.path);
    const location = httpsLocation(head, this.#options.httpsPort());
    if (location === undefined)
      return refuse(400, 'ERR_HTTP_BAD_REQUEST', 'a request that names no host has no place to be redirected to');
    // A body is of no use here, and need not be read to its end.
    const close =
      request.complete || request.method === 'GET' || request.method === 'HEAD' ? {} : { Connection: 'close' };
    response.writeHead(308, { Location: location, 'Content-Length': 0, ...close }).end();
    return undefined;
  }
}
