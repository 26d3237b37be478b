import { type Logger, sidPrefix } from '../../base/logger.ts';

const MAX_NAMES = 1_000;

/** Warns once for each attribute name, and once for sessions as a whole, so that a busy log stays readable. */
export class SizeWarnings {
  readonly #logger: Logger;
  #limits: { readonly attributeBytes: number; readonly sessionBytes: number };
  readonly #warned = new Set<string>();

  constructor(logger: Logger, limits: { readonly attributeBytes: number; readonly sessionBytes: number }) {
    this.#logger = logger;
    this.#limits = limits;
  }

  /** From now on it warns of what is larger than these. */
  set limits(limits: { readonly attributeBytes: number; readonly sessionBytes: number }) {
    this.#limits = limits;
  }

  /** An attribute was set. */
  note(sid: string, attribute: string, attributeBytes: number, sessionBytes: number): void {
    if (attributeBytes > this.#limits.attributeBytes) {
      const named = /^[A-Za-z_$][\w$]*$/.test(attribute) ? attribute : JSON.stringify(attribute);
      // With its name, because of lines that say the same the log has only one in ten seconds.
      const message = `the session attribute ${JSON.stringify(attribute)} is large, and read with the session by every process; where few requests need it write attributes: { ${named}: 'apart' }, or keep a key to it instead`;
      this.#warnOnce(`attribute ${attribute}`, { sid: sidPrefix(sid), attribute, bytes: attributeBytes }, message);
    }
    if (sessionBytes > this.#limits.sessionBytes)
      this.#warnOnce('session', { sid: sidPrefix(sid), bytes: sessionBytes }, 'a session is large');
  }

  #warnOnce(key: string, fields: object, message: string): void {
    if (this.#warned.has(key) || this.#warned.size > MAX_NAMES) return;
    this.#warned.add(key);
    this.#logger.warn(fields, message);
  }
}
