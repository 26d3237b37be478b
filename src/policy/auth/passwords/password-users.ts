import { hash as digestOf, randomBytes } from 'node:crypto';
import type { Awaitable } from '../../../base/awaitable.ts';
import type { Clock } from '../../../base/clock.ts';
import type { Logger } from '../../../base/logger.ts';
import { RecentMap } from '../../../base/recent-map.ts';
import { clientNetwork } from '../../../http/client-network.ts';
import { WatchedFile } from '../watched-file.ts';
import { type PasswordFile, readPasswordFile, textOf } from './password-file.ts';
import { type PasswordHash, readPasswordHash, unmatchable } from './password-hash.ts';
import type { PasswordVerifier, Verified } from './password-verifier.ts';

export interface PasswordUsersOptions {
  readonly file: string;
  /** For messages: `auth.staff`. */
  readonly title: string;
  /** In milliseconds; 0: never. */
  readonly rememberMs: number;
  readonly verifier: PasswordVerifier;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What is said of a user and a password. */
export type Login = 'right' | 'wrong' | 'unknown' | 'too-long' | 'busy' | 'failed';

/** Users whose last right password is remembered. */
const MOST_REMEMBERED = 10_000;

/** A password that was right: not itself, and nothing from which it could be guessed outside this process. */
interface Remembered {
  readonly digest: string;
  /** Which it was compared with. */
  readonly hash: PasswordHash;
  /** Of the client that it was compared for: an address, or the /64 of an IPv6 address. */
  readonly network: string | undefined;
  /** By the monotonic clock. */
  readonly until: number;
}

interface Users extends PasswordFile {
  /** Compared with where there is no such user: of the form and cost that most have. */
  readonly stranger: PasswordHash;
}

/**
 * The users of a password file. The file is read again when it changes; one that cannot be used changes nothing. A line
 * that locks an account is an error at the start, and later takes its user out like one who is removed: whoever locks
 * somebody out while the server runs must not leave everything as it was.
 *
 * A password that was right is remembered, as a digest with a key of this process, until the time is over, the line of
 * its user changes, or a wrong one is shown for that user from the same network: guesses of others must not make each of
 * the user's requests wait behind them. Clients that show the same at the same time wait for one comparison. A user that does not exist takes as long as one that does.
 */
export class PasswordUsers {
  readonly #options: PasswordUsersOptions;
  readonly #file: WatchedFile<Users>;
  readonly #key = randomBytes(32).toString('base64');
  readonly #textKey = randomBytes(32).toString('base64');
  /** What `passwordOf` has said: it is asked with each request. */
  readonly #names = new WeakMap<PasswordHash, string>();
  readonly #remembered = new RecentMap<string, Remembered>(MOST_REMEMBERED);
  /** Logins that were right, by digests of the texts that have shown them. */
  readonly #texts = new RecentMap<string, { readonly user: string; readonly digest: string }>(MOST_REMEMBERED);
  /** Comparisons that have not ended, by digest and hash. */
  readonly #underWay = new Map<string, Promise<Verified>>();

  constructor(options: PasswordUsersOptions) {
    this.#options = options;
    const { file, title, clock, logger } = options;
    const what = `${title}: the password file`;
    this.#file = new WatchedFile({ file, what, clock, logger, parse: text => this.#parse(text) });
  }

  /**
   * @throws {HoldfastError} ERR_CONFIG_INVALID when the file cannot be read, or has a line that cannot be used;
   * ERR_SERVER_FAILED when the threads that compare passwords have no program.
   */
  async start(): Promise<void> {
    this.#options.verifier.start();
    await this.#file.start();
  }

  close(): void {
    this.#file.close();
    this.#remembered.clear();
    this.#texts.clear();
  }

  /** The file has changed. @returns ends that. */
  onChange(listener: () => void): () => void {
    return this.#file.onChange(listener);
  }

  /** The hash of some users in the file is another now, or gone. @returns ends that. */
  onPasswordsChanged(listener: (users: readonly string[]) => void): () => void {
    let before = this.#file.value?.users;
    return this.#file.onChange(() => {
      const { users } = this.#file.value;
      const changed = [...(before ?? [])].filter(([user, { text }]) => users.get(user)?.text !== text);
      before = users;
      if (changed.length > 0) listener(changed.map(([user]) => user));
    });
  }

  /** Looks at the file now. Never rejects. */
  async look(): Promise<void> {
    await this.#file.look();
  }

  /**
   * Names the password that a user has, without telling anything of it: it changes when the hash in the file does.
   *
   * @returns undefined when there is no such user.
   */
  passwordOf(user: string): string | undefined {
    const hash = this.#file.value.users.get(user);
    if (!hash) return undefined;
    let name = this.#names.get(hash);
    if (name === undefined) {
      name = this.#digestOf('of-file', user, hash.text).slice(0, 22);
      this.#names.set(hash, name);
    }
    return name;
  }

  /**
   * The same with a key that processes share: what `sign` makes of the hash in the file.
   *
   * @returns undefined when there is no such user.
   */
  signPasswordOf<T>(user: string, sign: (hash: string) => T): T | undefined {
    const hash = this.#file.value.users.get(user);
    return hash && sign(hash.text);
  }

  /**
   * Is this the password of this user?
   *
   * @param address Of the client, which waits with others of its network.
   */
  login(user: string, password: string, address: string): Awaitable<Login> {
    const digest = this.#digestOf('shown', user, password);
    return this.#isRemembered(user, digest) ? 'right' : this.#compare(user, password, digest, address);
  }

  /**
   * The user who is let in by a text that has let them in before, without reading it anew: as long as `login` would say
   * so without a comparison. Undefined otherwise.
   */
  recall(text: string): string | undefined {
    const read = this.#texts.get(this.#textDigestOf(text));
    return read && this.#isRemembered(read.user, read.digest) ? read.user : undefined;
  }

  /** For `recall`: this text has shown a login that was right. */
  keepText(text: string, user: string, password: string): void {
    this.#texts.set(this.#textDigestOf(text), { user, digest: this.#digestOf('shown', user, password) });
  }

  async #compare(user: string, password: string, digest: string, address: string): Promise<Login> {
    const { users, stranger } = this.#file.value;
    const hash = users.get(user);
    const verified = await this.#verify(password, hash ?? stranger, digest, address);
    // What was compared may be of yesterday now.
    if (this.#file.value.users.get(user)?.text !== hash?.text) return this.login(user, password, address);
    if (!hash) return verified === 'busy' || verified === 'failed' ? verified : 'unknown';
    const network = clientNetwork(address);
    if (verified === 'right') this.#remember(user, digest, hash, network);
    if (verified === 'wrong' && this.#remembered.get(user)?.network === network) this.#remembered.delete(user);
    return verified;
  }

  #verify(password: string, hash: PasswordHash, digest: string, address: string): Promise<Verified> {
    const key = `${digest} ${hash.text}`;
    let underWay = this.#underWay.get(key);
    if (!underWay) {
      const { form, text } = hash;
      underWay = this.#options.verifier.verify(password, { form, text }, address);
      this.#underWay.set(key, underWay);
      void underWay.finally(() => this.#underWay.delete(key));
    }
    return underWay;
  }

  #isRemembered(user: string, digest: string): boolean {
    const known = this.#remembered.get(user);
    if (known?.digest !== digest) return false;
    return known.until > this.#options.clock.monotonic() && this.#file.value.users.get(user)?.text === known.hash.text;
  }

  #remember(user: string, digest: string, hash: PasswordHash, network: string | undefined): void {
    const { rememberMs, clock } = this.#options;
    // Clients that have waited for the same comparison come here one after the other, with the same.
    if (rememberMs > 0) this.#remembered.set(user, { digest, hash, network, until: clock.monotonic() + rememberMs });
  }

  /**
   * Made with each request, hence in one call and not as an HMAC, which costs seven times as much. Nobody sees one as a
   * whole, to make a longer one of it; and how long it takes to compare two tells nothing to who cannot make them.
   */
  #digestOf(purpose: 'shown' | 'of-file', user: string, text: string): string {
    return digestOf('sha256', `${this.#key}${purpose}\0${user}\0${text}`, 'base64url');
  }

  #textDigestOf(text: string): string {
    return digestOf('sha256', this.#textKey + text, 'base64url');
  }

  #parse(text: string): Users {
    const { file, title, logger } = this.#options;
    const read = readPasswordFile(text, file);
    const isStart = this.#file.value === undefined;
    const faults = read.faults.filter(({ effect }) => isStart || effect === undefined);
    if (faults.length > 0) throw new Error(textOf(faults));
    const locked = read.faults.map(({ line, effect }) => ({ line, message: effect }));
    for (const { line, message } of [...read.warnings, ...locked])
      logger.warn(
        { event: 'password-file-doubtful', file, line, reason: message },
        `${title}: ${file} line ${line}: ${message}`,
      );
    return { ...read, stranger: strangerOf(read.users.values()) };
  }
}

/** Of which nobody knows the password, as most hashes are. */
function strangerOf(hashes: Iterable<PasswordHash>): PasswordHash {
  const counts = new Map<string, { hash: PasswordHash; count: number }>();
  for (const hash of hashes) {
    const kind = `${hash.form} ${hash.cost}`;
    const known = counts.get(kind);
    if (known) known.count++;
    else counts.set(kind, { hash, count: 1 });
  }
  let most = { hash: ANY, count: 0 };
  for (const kind of counts.values()) if (kind.count > most.count) most = kind;
  return unmatchable(most.hash);
}

/** Where there is no user at all. */
const ANY = readPasswordHash(`$2y$10$${'.'.repeat(53)}`) as PasswordHash;
