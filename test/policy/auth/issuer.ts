import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, type JWK, type JWTPayload, SignJWT } from 'jose';

/** A key of an issuer, with which tests sign. */
export interface SigningKey {
  readonly kid: string | undefined;
  readonly alg: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

const CURVES: Readonly<Record<string, string>> = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' };

export function signingKey(alg: string, kid: string | undefined = `${alg}-1`): SigningKey {
  const pair =
    alg in CURVES
      ? generateKeyPairSync('ec', { namedCurve: CURVES[alg]! })
      : alg.startsWith('Ed')
        ? generateKeyPairSync('ed25519')
        : generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { kid, alg, ...pair };
}

/** As an issuer publishes keys. */
export async function jwks(...keys: readonly SigningKey[]): Promise<{ keys: JWK[] }> {
  return {
    keys: await Promise.all(
      keys.map(async ({ publicKey, kid, alg }) => ({
        ...(await exportJWK(publicKey)),
        ...(kid !== undefined && { kid }),
        alg,
        use: 'sig',
      })),
    ),
  };
}

export const ISSUER = 'https://issuer.example';
export const AUDIENCE = 'https://api.example';

/** Claims of a good token of Alice's at this time (ms since the epoch). */
export function claimsAt(now: number, changes: JWTPayload = {}): JWTPayload {
  const seconds = Math.floor(now / 1_000);
  return { iss: ISSUER, aud: AUDIENCE, sub: 'alice', iat: seconds, exp: seconds + 600, jti: 'token-1', ...changes };
}

export function sign(key: SigningKey, claims: JWTPayload, header: Record<string, unknown> = {}): Promise<string> {
  return new SignJWT(claims)
    .setProtectedHeader({ alg: key.alg, ...(key.kid !== undefined && { kid: key.kid }), ...header })
    .sign(key.privateKey);
}

/** A server of an issuer, of which each test says what it answers. */
export class IssuerServer {
  answer: (request: IncomingMessage, response: ServerResponse, body: string) => void = () => {};
  readonly requests: { readonly headers: IncomingMessage['headers']; readonly body: string }[] = [];
  readonly #server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', chunk => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      this.requests.push({ headers: request.headers, body });
      this.answer(request, response, body);
    });
  });

  async open(): Promise<void> {
    await new Promise<void>(resolve => this.#server.listen(0, '127.0.0.1', resolve));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/jwks`;
  }

  /** Answers with this from now on. */
  serves(value: unknown): void {
    this.answer = (_, response) =>
      response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise(resolve => this.#server.close(resolve));
  }
}
