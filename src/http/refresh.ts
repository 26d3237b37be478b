export interface Refresh {
  /** Where its link begins and ends in the value; nothing in between: it is the page itself. */
  readonly start: number;
  readonly end: number;
  /** What says when, with the blanks before it. */
  readonly time: string;
}

/**
 * Reads the value of a `Refresh` header, or of the `content` of its `meta`, as browsers do.
 *
 * @returns undefined when it is none.
 * @see HTML standard §4.2.5.3, "shared declarative refresh steps"
 */
export function parseRefresh(value: string): Refresh | undefined {
  const time = /^[\t\n\f\r ]*[\d.]+/.exec(value)?.[0];
  if (time === undefined) return undefined;
  const rest = value.slice(time.length);
  const lead = /^[\t\n\f\r ]*[;,]?[\t\n\f\r ]*/.exec(rest)![0];
  if (lead === '' && rest !== '') return undefined;
  const key = /^(?:url[\t\n\f\r ]*=[\t\n\f\r ]*)?/i.exec(rest.slice(lead.length))![0];
  const start = time.length + lead.length + key.length;
  const quote = value[start];
  if (quote !== '"' && quote !== "'") return { start, end: value.length, time };
  const close = value.indexOf(quote, start + 1);
  return { start: start + 1, end: close === -1 ? value.length : close, time };
}
