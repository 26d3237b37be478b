/**
 * The media type an `Accept` header likes best, lower-case, without parameters: the highest quality, the first of
 * equals.
 *
 * @returns undefined when the header is missing or accepts nothing.
 * @see RFC 9110 §12.5.1
 */
export function preferredMediaType(accept: string | undefined): string | undefined {
  let best: string | undefined;
  let bestQuality = 0;
  for (const range of (accept ?? '').split(',')) {
    const [type = '', ...parameters] = range.split(';').map(part => part.trim().toLowerCase());
    const weight = parameters.find(parameter => parameter.startsWith('q='));
    const quality = weight === undefined ? 1 : Number(weight.slice(2));
    if (type !== '' && quality > bestQuality) {
      best = type;
      bestQuality = quality;
    }
  }
  return best;
}
