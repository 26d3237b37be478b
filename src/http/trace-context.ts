/** W3C Trace Context §3.2: version, trace id, id of the parent, flags. Later versions may have more behind it. */
const TRACEPARENT = /^(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})[\da-f]{16}-[\da-f]{2}(?:$|-)/;

/**
 * The id of the trace that a `traceparent` header names; undefined for what is not one.
 *
 * @see https://www.w3.org/TR/trace-context/
 */
export function traceIdIn(header: string | readonly string[] | undefined): string | undefined {
  return typeof header === 'string' && header.length <= 512 ? TRACEPARENT.exec(header)?.[1] : undefined;
}
