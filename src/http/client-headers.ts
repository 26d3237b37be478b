import { headerName } from './header-name.ts';
import { foldPattern, namePatterns } from './private-headers.ts';

export interface ClientHeadersOptions {
  /**
   * Headers of clients that the backends do not get, in any spelling; `X-Internal-*` stands for all that begin so.
   * Default: none besides the [private headers](private-headers.md) of other servers, which never pass.
   */
  removeHeaders?: readonly string[];
  /**
   * Private headers of other servers (`X-Real-IP`, `X-SSL-*`) that pass when one of `trustedProxies` sends them. List
   * what it sets itself, whatever its client sent. Default: none.
   */
  passHeaders?: readonly string[];
}

/** Which headers of a client the backends of one upstream get, beside those that only we may set. */
export class ClientHeaders {
  readonly #removed: RegExp | undefined;
  readonly #passed: RegExp | undefined;

  constructor({ removeHeaders = [], passHeaders = [] }: ClientHeadersOptions) {
    this.#removed = patterns(removeHeaders);
    this.#passed = patterns(passHeaders);
  }

  /**
   * Private headers pass from a trusted proxy only, and only those that are listed: it may have passed on what its
   * client wrote.
   */
  passes(name: string, isPeerTrusted: boolean): boolean {
    const { folded, isPrivate } = headerName(name);
    if (isPrivate && !(isPeerTrusted && this.#passed?.test(folded))) return false;
    return this.#removed === undefined || !this.#removed.test(folded);
  }
}

function patterns(names: readonly string[]): RegExp | undefined {
  return names.length === 0 ? undefined : namePatterns(names.map(foldPattern));
}
