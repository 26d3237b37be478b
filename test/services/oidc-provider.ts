import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type Provider from 'oidc-provider';

export const CLIENT_ID = 'shop';
export const CLIENT_SECRET = 's3cret: with %';

export interface OidcProviderOptions {
  /** Origins of the server that is tested, with the prefix of its pages. */
  readonly clients: readonly string[];
  /** The scheme, whose name is in the paths of its pages. Default `idp`. */
  readonly scheme?: string;
  /** Default: any that is free. */
  readonly port?: number;
  /** Seconds. Default: an hour. */
  readonly accessTokenTtl?: number;
  /** Refresh tokens are good for one use; a second one ends all that came of the first. */
  readonly rotatesRefreshTokens?: boolean;
  /** Has pages that a browser can use, instead of signing `user` in at once. */
  readonly hasPages?: boolean;
  readonly formPost?: boolean;
  /** Claims only from userinfo, as the specification has it; false: the ID token has them. Default true. */
  readonly claimsByUserInfo?: boolean;
  /** PEM. Default: it speaks plain http. */
  readonly tls?: { readonly certificate: string; readonly key: string };
}

/** A real provider of OpenID Connect: `oidc-provider`, on 127.0.0.1. */
export class OidcProvider {
  /** Who signs in next; undefined: they cancel. */
  user: string | undefined = 'alice';
  groups: string[] = ['staff'];
  /** Paths of the requests that it has had. */
  readonly requests: string[] = [];
  /** Of back-channel logouts: the statuses that it got. */
  readonly logoutAnswers: number[] = [];
  /** The logout tokens that it has sent. */
  readonly logoutTokens: string[] = [];
  /** Answers everything with 503. */
  isDown = false;
  readonly #server: Server;
  readonly #grants: string[] = [];
  readonly #hasPages: boolean;
  readonly #scheme: 'http' | 'https';
  #provider: Provider | undefined;

  private constructor({ hasPages = false, tls }: OidcProviderOptions) {
    this.#hasPages = hasPages;
    this.#scheme = tls ? 'https' : 'http';
    const serve = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response);
    this.#server = tls ? createSecureServer({ cert: tls.certificate, key: tls.key }, serve) : createServer(serve);
  }

  static async start(options: OidcProviderOptions): Promise<OidcProvider> {
    const started = new OidcProvider(options);
    started.#server.listen(options.port ?? 0, '127.0.0.1');
    await once(started.#server, 'listening');
    started.#provider = await started.#make(options);
    return started;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get issuer(): string {
    return `${this.#scheme}://127.0.0.1:${this.port}`;
  }

  /** As at the beginning. */
  reset(): void {
    this.user = 'alice';
    this.groups = ['staff'];
    this.isDown = false;
    for (const list of [this.requests, this.logoutAnswers, this.logoutTokens]) list.length = 0;
  }

  /** Ends all that it has allowed: tokens cannot be renewed any more. */
  async revokeAll(): Promise<void> {
    for (const id of this.#grants.splice(0)) await (await this.#provider!.Grant.find(id))?.destroy();
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise(resolve => this.#server.close(resolve));
  }

  async #make(options: OidcProviderOptions): Promise<Provider> {
    const { clients, scheme = 'idp', accessTokenTtl = 3_600, rotatesRefreshTokens, formPost } = options;
    const { default: Made } = await quietly(() => import('oidc-provider'));
    const provider = await quietly(
      async () =>
        new Made(this.issuer, {
          clients: [
            {
              client_id: CLIENT_ID,
              client_secret: CLIENT_SECRET,
              redirect_uris: clients.map(at => `${at}/oidc/${scheme}/callback`),
              post_logout_redirect_uris: clients.map(at => `${at}/bye`),
              backchannel_logout_uri: `${clients[0]}/oidc/${scheme}/backchannel-logout`,
              backchannel_logout_session_required: true,
              grant_types: ['authorization_code', 'refresh_token'],
              ...(formPost && { application_type: 'web' }),
            },
          ],
          cookies: { keys: ['provider'] },
          claims: { openid: ['sub'], profile: ['name', 'groups'], email: ['email', 'email_verified'] },
          conformIdTokenClaims: options.claimsByUserInfo ?? true,
          features: {
            backchannelLogout: { enabled: true },
            rpInitiatedLogout: {
              postLogoutSuccessSource: async context => {
                context.body = '<!doctype html><title>Signed out</title>';
              },
              logoutSource: async (context, form) => {
                context.body = `<!doctype html><title>Sign out</title>${form}<button form="op.logoutForm" name="logout" value="yes">Sign out</button>`;
              },
            },
            devInteractions: { enabled: this.#hasPages },
          },
          ttl: {
            AccessToken: accessTokenTtl,
            IdToken: accessTokenTtl,
            Session: 3_600,
            Grant: 3_600,
            RefreshToken: 3_600,
            Interaction: 600,
          },
          rotateRefreshToken: rotatesRefreshTokens ?? false,
          issueRefreshToken: async (_context: unknown, _client: unknown, code: { scopes: Set<string> }) =>
            code.scopes.has('offline_access'),
          findAccount: async (_context: unknown, id: string) => ({
            accountId: id,
            claims: async () => ({
              sub: id,
              name: id.toUpperCase(),
              groups: this.groups,
              email: `${id}@example.com`,
              email_verified: true,
            }),
          }),
          ...(!this.#hasPages && {
            interactions: { url: (_context: unknown, { uid }: { uid: string }) => `/interaction/${uid}` },
          }),
          // By itself it calls no loopback address.
          fetch: async (url, init) => {
            const response = await fetch(url, { ...init, dispatcher: undefined } as RequestInit);
            if (String(url).includes('backchannel-logout')) {
              this.logoutTokens.push(new URLSearchParams(String(init?.body)).get('logout_token')!);
              this.logoutAnswers.push(response.status);
            }
            return response;
          },
        }),
    );
    return provider;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests.push(request.url!.split('?')[0]!);
    if (this.isDown || !this.#provider) return void response.writeHead(503).end();
    if (this.#hasPages || !request.url!.startsWith('/interaction/')) {
      this.#provider.callback()(request, response);
      return;
    }
    try {
      await this.#interact(this.#provider, request, response);
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  }

  /** What a user would do on its pages. */
  async #interact(provider: Provider, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
    if (this.user === undefined) {
      const result = { error: 'access_denied', error_description: '<script>alert(1)</script>' };
      return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
    }
    if (prompt.name === 'login') {
      const result = { login: { accountId: this.user } };
      return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
    }
    const accountId = session!.accountId;
    const known = grantId === undefined ? undefined : await provider.Grant.find(grantId);
    const grant = known ?? new provider.Grant({ accountId, clientId: String(params.client_id) });
    grant.addOIDCScope(String(params.scope));
    const consent = { grantId: await grant.save() };
    this.#grants.push(consent.grantId);
    return provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
  }
}

/** It warns of this Node, of its development keys and of its pages. */
async function quietly<T>(work: () => Promise<T>): Promise<T> {
  const { warn, info } = console;
  console.warn = console.info = () => {};
  try {
    return await work();
  } finally {
    Object.assign(console, { warn, info });
  }
}
