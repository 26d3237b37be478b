import type { Clock } from '../../../base/clock.ts';
import { RecentMap } from '../../../base/recent-map.ts';
import { AuthUnavailable } from '../unavailable.ts';
import type { Login, Logins } from './logins.ts';
import { type Provider, SignInRefused, type Tokens } from './provider.ts';

export interface RenewalsOptions {
  readonly clock: Clock;
  readonly provider: Provider;
  readonly asksUserInfo: boolean;
  readonly loginOf: (tokens: Tokens) => Login;
}

/** How long before their end tokens are renewed; half of their life, where that is less. */
const AHEAD_MS = 30_000;
/** How long another process may take for it. */
const MOST_MS = 20_000;
const LOOK_MS = 100;
const MOST_FAILED = 10_000;
/** After a failed try, until the next one of a login whose tokens are still good. */
const RETRY_MS = 5_000;

/** Renews the tokens of logins: once for each, whatever requests, sockets and processes ask for it at a time. */
export class Renewals {
  readonly #options: RenewalsOptions;
  readonly #running = new Map<string, Promise<Login | undefined>>();
  /** In the clock's monotonic time. */
  readonly #failedAt = new RecentMap<string, number>(MOST_FAILED);

  constructor(options: RenewalsOptions) {
    this.#options = options;
  }

  /**
   * The login with tokens that have not ended.
   *
   * @returns undefined when it is over.
   * @throws {AuthUnavailable} when that cannot be said.
   */
  async current(logins: Logins, id: string, login: Login): Promise<Login | undefined> {
    const { clock } = this.#options;
    if (!this.#isDue(login)) return login;
    const isGood = login.endsAt! > clock.now();
    if (login.refreshToken === undefined) return isGood ? login : undefined;
    if (isGood && clock.monotonic() - (this.#failedAt.get(id) ?? Number.NEGATIVE_INFINITY) < RETRY_MS) return login;
    try {
      return await this.#renewOnce(logins, id);
    } catch (error) {
      if (!(error instanceof AuthUnavailable) || !isGood) throw error;
      this.#failedAt.set(id, clock.monotonic());
      return login;
    }
  }

  #isDue({ endsAt, lifeMs = Number.POSITIVE_INFINITY }: Login): boolean {
    return endsAt !== undefined && endsAt - Math.min(AHEAD_MS, lifeMs / 2) <= this.#options.clock.now();
  }

  #renewOnce(logins: Logins, id: string): Promise<Login | undefined> {
    const running = this.#running.get(id);
    if (running) return running;
    const renewing = this.#renew(logins, id).finally(() => this.#running.delete(id));
    this.#running.set(id, renewing);
    return renewing;
  }

  /** A refresh token may be good for one use: a second one can end the login (RFC 9700 §4.14.2). */
  async #renew(logins: Logins, id: string): Promise<Login | undefined> {
    const { clock } = this.#options;
    const until = clock.monotonic() + MOST_MS;
    for (;;) {
      let renewed: Login | undefined;
      const isDone = await logins.alone(id, MOST_MS, async () => {
        const latest = await logins.read(id);
        renewed = latest && this.#isDue(latest) ? await this.#ask(logins, id, latest) : latest;
      });
      if (isDone) return renewed;
      if (clock.monotonic() >= until)
        throw new AuthUnavailable('another process renews the tokens, and has not finished');
      await new Promise<void>(resolve => clock.setTimeout(resolve, LOOK_MS));
      const latest = await logins.read(id);
      if (!latest || !this.#isDue(latest)) return latest;
    }
  }

  async #ask(logins: Logins, id: string, login: Login): Promise<Login | undefined> {
    const { provider, asksUserInfo } = this.#options;
    if (login.refreshToken === undefined) return undefined;
    const before = { ...login.claims, sub: login.subject };
    const tokens = await provider.refresh(login.refreshToken, before, asksUserInfo);
    const next = tokens && this.#loginIn(tokens);
    // Under another name it would be another user's session.
    if (!tokens || next?.user !== login.user) {
      await logins.drop(id);
      return undefined;
    }
    const renewed: Login = {
      ...next,
      refreshToken: tokens.refreshToken ?? login.refreshToken,
      idToken: tokens.idToken ?? login.idToken,
      providerSession: tokens.providerSession ?? login.providerSession,
    };
    await logins.replace(id, renewed);
    return renewed;
  }

  /** Claims that name nobody any more end the login. */
  #loginIn(tokens: Tokens): Login | undefined {
    try {
      return this.#options.loginOf(tokens);
    } catch (error) {
      if (error instanceof SignInRefused) return undefined;
      throw error;
    }
  }
}
