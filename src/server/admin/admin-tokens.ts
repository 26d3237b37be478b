import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { WatchedFile } from '../../policy/auth/watched-file.ts';
import { loadOrCreateSecret } from '../../session/identity/secret-file.ts';
import { type DataFolder, keysFolder } from '../data-folder.ts';

const MIN_TOKEN_BYTES = 32;

/** What a request shows of a token. */
export type ShownToken = 'good' | 'wrong' | 'none';

/**
 * The tokens of the admin port, one on each line of a file: several, so that they can be changed one client after the
 * other. The file is read again within a second of a change. Kept as hashes, and compared in a time that tells nothing
 * of them.
 */
export class AdminTokens {
  readonly #file: WatchedFile<readonly Buffer[]>;

  private constructor(file: WatchedFile<readonly Buffer[]>) {
    this.#file = file;
  }

  /**
   * @param path Left out: a file of the data folder (`keys/admin.token`, mode 0600), which is made when it is not there.
   * @throws {HoldfastError} ERR_CONFIG_INVALID when it cannot be read or made, or holds no token.
   */
  static async open(
    path: string | undefined,
    { dataFolder, clock, logger }: { dataFolder: DataFolder; clock: Clock; logger: Logger },
  ): Promise<AdminTokens> {
    const own = join(keysFolder(dataFolder), 'admin.token');
    if (path === undefined)
      await loadOrCreateSecret(own, () => randomBytes(MIN_TOKEN_BYTES).toString('base64url'), dataFolder.disk);
    const what = 'the file with the token of the admin API';
    const file = new WatchedFile({ file: path ?? own, what, parse: parseTokens, clock, logger });
    await file.start();
    return new AdminTokens(file);
  }

  /** @param authorization The header of a request. RFC 6750 §2.1. */
  judge(authorization: string | undefined): ShownToken {
    if (authorization === undefined) return 'none';
    const token = /^Bearer +([\w.~+/-]+=*)$/i.exec(authorization)?.[1];
    if (token === undefined) return 'wrong';
    const given = hash('sha256', token, 'buffer');
    let isGood = false;
    // Each of them is looked at, whichever it is.
    for (const one of this.#file.value) if (timingSafeEqual(one, given)) isGood = true;
    return isGood ? 'good' : 'wrong';
  }

  close(): void {
    this.#file.close();
  }
}

/** @throws {Error} that names the line, and no token. */
export function parseTokens(text: string): readonly Buffer[] {
  const tokens: Buffer[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const token = line.trim();
    if (token === '' || token.startsWith('#')) continue;
    if (!/^[\w.~+/-]+=*$/.test(token) || token.length < MIN_TOKEN_BYTES)
      throw new Error(
        `line ${index + 1}: a token has at least ${MIN_TOKEN_BYTES} characters of A-Z, a-z, 0-9 and . _ ~ + / - =; make one with: openssl rand -base64 32`,
      );
    tokens.push(hash('sha256', token, 'buffer'));
  }
  if (tokens.length === 0) throw new Error('there is no token in it; make one with: openssl rand -base64 32');
  return tokens;
}
