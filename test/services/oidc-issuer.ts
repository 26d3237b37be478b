import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, type JWK } from 'jose';
import { Provider } from 'oidc-provider';

const SECRETS = { robot: 'robot-secret', gateway: 'our secret: 100 %' };

/** An `oidc-provider` of its own, which gives tokens to the client `robot` and answers the questions of `gateway`. */
export class OidcIssuer {
  readonly #server: Server;
  #provider!: Provider;
  #keys: JWK[] = [];

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<OidcIssuer> {
    const server = createServer();
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const issuer = new OidcIssuer(server);
    await issuer.rotate();
    server.on('request', (request, response) => issuer.#provider.callback()(request, response));
    return issuer;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get gatewaySecret(): string {
    return SECRETS.gateway;
  }

  /** From now on it signs with a new key, as after a restart with another configuration; the old ones are published. */
  async rotate(): Promise<void> {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const key = { ...(await exportJWK(privateKey)), kid: `key-${this.#keys.length}`, alg: 'ES256', use: 'sig' };
    this.#keys = [key, ...this.#keys];
    this.#provider = new Provider(this.url, {
      jwks: { keys: this.#keys as never },
      clients: Object.entries(SECRETS).map(([client_id, client_secret]) => ({
        ...{ client_id, client_secret, grant_types: ['client_credentials'], redirect_uris: [], response_types: [] },
        id_token_signed_response_alg: 'ES256',
      })),
      ttl: { ClientCredentials: 60, RefreshToken: 60 },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        introspection: { enabled: true, allowedPolicy: () => true },
        revocation: { enabled: true },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (_, resource) => ({
            ...{ scope: 'read write', audience: resource, accessTokenTTL: resource.includes('short') ? 2 : 60 },
            ...(resource.includes('jwt')
              ? { accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }
              : { accessTokenFormat: 'opaque' }),
          }),
        },
      },
    });
  }

  /** An access token for a resource: signed where its name has `jwt` in it, of two seconds where it has `short`. */
  async token(resource: string): Promise<string> {
    const answer = await this.#post('/token', { grant_type: 'client_credentials', resource, scope: 'read' });
    return ((await answer.json()) as { access_token: string }).access_token;
  }

  async refreshToken(): Promise<string> {
    const client = await this.#provider.Client.find('robot');
    const fields = { client: client!, accountId: 'alice', scope: 'openid', gty: 'authorization_code' };
    return new this.#provider.RefreshToken(fields as never).save();
  }

  async revoke(token: string): Promise<void> {
    const { status } = await this.#post('/token/revocation', { token });
    if (status !== 200) throw new Error(`the issuer answered ${status} to a revocation`);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise(resolve => this.#server.close(resolve));
  }

  #post(path: string, form: Record<string, string>): Promise<Response> {
    const credentials = Buffer.from(`robot:${SECRETS.robot}`).toString('base64');
    return fetch(this.url + path, {
      method: 'POST',
      headers: { Authorization: `Basic ${credentials}` },
      body: new URLSearchParams(form),
    });
  }
}
