import { http } from './node-http.ts';
import { type Refusal, refuse } from './refusal.ts';

const KNOWN: ReadonlySet<string> = new Set(http.METHODS);

/** Is it one that Node's parser of HTTP/1 takes? Upper case only (RFC 9110 §9.1). */
export function isKnownMethod(method: string): boolean {
  return KNOWN.has(method);
}

/** RFC 9110 §15.6.2. The connection must not carry another request: Node's parser has not read it to its end. */
export function unknownMethod(method?: string): Refusal {
  const named = method === undefined ? 'the method' : `the method ${JSON.stringify(method.slice(0, 100))}`;
  const reason = `${named} is not one of those that are understood here`;
  return refuse(501, 'ERR_HTTP_METHOD_UNKNOWN', reason, {
    headers: { Connection: 'close' },
    body: 'This method is not understood here.\n',
  });
}
