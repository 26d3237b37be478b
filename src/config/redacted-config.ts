import type * as z from 'zod';
import { isPlain } from './fields.ts';
import { configSchema } from './schema.ts';
import { isSecret } from './schema-parts.ts';
import { alternativesAt, alternativesOf, alternativesOfEntries } from './schema-walk.ts';

type Schemas = readonly z.core.$ZodType[];

/** What stands for a secret. */
const HIDDEN = '***';
/** Of what the schema does not know, such as fields of an endpoint, the name decides. */
const SECRET_NAME = /secret|passw|token|credential|authorization|cookie|header/i;
const SECRET_PARAMETER = /([?&;][^=&;#]*(?:pass|pwd|secret|token|key|auth|sig)[^=&;#]*=)[^&;#]*/gi;

/**
 * A configuration as it may be shown: as JSON, without what its schema says is secret, without passwords in URLs, and
 * without what has the name of a secret where the schema knows nothing. Of live objects it says what they are.
 */
export function redactedConfig(config: object): Record<string, unknown> {
  return fieldsOf(config, alternativesOf(configSchema), false);
}

function fieldsOf(value: object, schemas: Schemas, isHidden: boolean): Record<string, unknown> {
  const entries = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(
    entries.map(([name, field]) => {
      const below = alternativesAt(schemas, name);
      return [name, shown(field, below, isHidden || (below.length === 0 && SECRET_NAME.test(name)))];
    }),
  );
}

function shown(value: unknown, schemas: Schemas, isHidden: boolean): unknown {
  if (typeof value === 'string') return isHidden || schemas.some(isSecret) ? HIDDEN : withoutPassword(value);
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return value;
  if (Array.isArray(value)) {
    const below = alternativesOfEntries(schemas);
    return value.map(entry => shown(entry, below, isHidden));
  }
  if (typeof value === 'function') return '[function]';
  if (value instanceof RegExp) return String(value);
  if (typeof value !== 'object') return `[${typeof value}]`;
  const kind: unknown = value.constructor?.name;
  return isPlain(value) ? fieldsOf(value, schemas, isHidden) : `[${kind || 'object'}]`;
}

/** RFC 3986 §3.2.1: what stands before the last `@` of an authority. */
function withoutPassword(text: string): string {
  if (!/^[a-z][a-z\d+.-]*:/i.test(text)) return text;
  return text.replace(/^([a-z][a-z\d+.-]*:\/\/)[^/?#]*@/i, `$1${HIDDEN}@`).replace(SECRET_PARAMETER, `$1${HIDDEN}`);
}
