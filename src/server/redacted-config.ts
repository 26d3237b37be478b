/** What stands for a secret. */
const HIDDEN = '***';
/** Values under these names are secret. A name that ends so is that of a file or variable, which is none. */
const SECRET_NAME = /secret|passw|token|credential|authorization|cookie$/i;
const PLACE_NAME = /(?:file|files|variable|type)$/i;
/** Of headers that we send the values may be secrets. */
const OF_HEADERS = new Set(['headers', 'requestHeaders']);
const SECRET_PARAMETER = /([?&;][^=&;#]*(?:pass|pwd|secret|token|key|auth|sig)[^=&;#]*=)[^&;#]*/gi;

/**
 * A configuration as it may be shown: as JSON, without passwords in URLs, values of headers, and whatever has the name
 * of a secret. Of live objects it says what they are.
 */
export function redactedConfig(config: object): Record<string, unknown> {
  return fieldsOf(config, false);
}

function fieldsOf(value: object, isHidden: boolean): Record<string, unknown> {
  const entries = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(
    entries.map(([name, field]) => [name, shown(field, isHidden || isSecret(name, field), OF_HEADERS.has(name))]),
  );
}

function isSecret(name: string, value: unknown): boolean {
  return typeof value === 'string' && SECRET_NAME.test(name) && !PLACE_NAME.test(name);
}

function shown(value: unknown, isHidden: boolean, hasSecrets: boolean): unknown {
  if (typeof value === 'string') return isHidden ? HIDDEN : withoutPassword(value);
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return value;
  if (Array.isArray(value)) return value.map(entry => shown(entry, isHidden, hasSecrets));
  if (typeof value === 'function') return '[function]';
  if (value instanceof RegExp) return String(value);
  if (typeof value !== 'object') return `[${typeof value}]`;
  const isPlain = Object.getPrototypeOf(value) === Object.prototype || Object.getPrototypeOf(value) === null;
  if (!isPlain) return `[${value.constructor?.name || 'object'}]`;
  return fieldsOf(value, isHidden || hasSecrets);
}

/** RFC 3986 §3.2.1: what stands before the last `@` of an authority. */
function withoutPassword(text: string): string {
  if (!/^[a-z][a-z\d+.-]*:/i.test(text)) return text;
  return text.replace(/^([a-z][a-z\d+.-]*:\/\/)[^/?#]*@/i, `$1${HIDDEN}@`).replace(SECRET_PARAMETER, `$1${HIDDEN}`);
}
