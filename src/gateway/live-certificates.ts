import { SetMap } from '../base/set-map.ts';
import type { ClientCertificate } from '../http/client-certificate.ts';
import { CloseCode } from '../wire/close-codes.ts';

/** A connection of an endpoint, or a relay. */
interface Closable {
  close(code: number, reason: string): void;
}

/** Open WebSockets whose clients have shown a certificate: they close with 1008 when it does not count any more. */
export class LiveCertificates {
  readonly #bySocket = new Map<Closable, string>();
  readonly #byFingerprint = new SetMap<string, Closable>();

  get size(): number {
    return this.#bySocket.size;
  }

  join(socket: Closable, { fingerprint256 }: ClientCertificate): void {
    this.#bySocket.set(socket, fingerprint256);
    this.#byFingerprint.add(fingerprint256, socket);
  }

  leave(socket: Closable): void {
    const fingerprint = this.#bySocket.get(socket);
    if (fingerprint === undefined) return;
    this.#bySocket.delete(socket);
    this.#byFingerprint.remove(fingerprint, socket);
  }

  withdraw(fingerprints: ReadonlySet<string>, reason: string): void {
    for (const fingerprint of fingerprints)
      for (const socket of this.#byFingerprint.get(fingerprint) ?? []) {
        this.leave(socket);
        socket.close(CloseCode.policyViolation, reason);
      }
  }
}
