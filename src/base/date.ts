const DATE = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2}))?$/;

/**
 * `2027-01-31` (its beginning, in UTC), or a time with its zone: `2027-01-31T06:00:00+01:00` (RFC 3339). Undefined: not
 * a date.
 */
export function parseDate(text: string): number | undefined {
  if (!DATE.test(text)) return undefined;
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) return undefined;
  // JavaScript takes the 31st of June for the 1st of July.
  return new Date(`${text.slice(0, 10)}T00:00Z`).toISOString().startsWith(text.slice(0, 10)) ? ms : undefined;
}
