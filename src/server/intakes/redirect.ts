import type { IncomingMessage, ServerResponse } from 'node:http';
import { createFileServer, type FileServer } from '../../gateway/targets/files.ts';
import type { AddressList } from '../../http/address-list.ts';
import type { HostNames } from '../../http/host-names.ts';
import { httpsLocation } from '../../http/https-location.ts';
import { isRefusal, type Refusal, refuse } from '../../http/refusal.ts';
import { readRequestHead } from '../../http/request-head.ts';
import { writeRefusal } from '../../http/write-refusal.ts';
import type { Intake } from '../listen/intake.ts';

/** RFC 8555 §8.3. */
const ACME_CHALLENGE = '/.well-known/acme-challenge/';

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
  readonly #challenges: FileServer | undefined;

  constructor(options: HttpsRedirectOptions) {
    this.#options = options;
    this.#challenges = options.acmeChallenge === undefined ? undefined : createFileServer(options.acmeChallenge);
  }

  use(): void {}

  readonly isUpgrade = (): boolean => false;

  readonly onUpgrade = (): void => {};

  readonly onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    response.on('error', () => {});
    this.#answer(request, response).then(
      refusal => refusal && writeRefusal(response, refusal),
      () => response.destroy(),
    );
  };

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<Refusal | undefined> {
    const head = readRequestHead(request, this.#options);
    if (isRefusal(head)) return head;
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
